# lanpost. `make help` lists what can be made.

CROSS_COMPILE ?=
CC            = $(CROSS_COMPILE)gcc
STRIP         ?= $(CROSS_COMPILE)strip
PKG_CONFIG    ?= pkg-config
BUILD         ?= build
PREFIX        ?= /usr/local

CFLAGS   ?= -Os -g
WARNINGS  = -Wall -Wextra -Werror -Wformat=2 -Wshadow -Wstrict-prototypes \
            -Wmissing-prototypes -Wvla $(CUT_IS_FINE)
# A log text that is cut short is no fault; clang does not know the warning.
CUT_IS_FINE = $(if $(findstring clang,$(CC)),,-Wno-format-truncation)
HARDENING = -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
LINKING   = -pie -Wl,-z,relro,-z,now -Wl,--gc-sections
BASE      = -std=c11 -D_GNU_SOURCE -ffunction-sections -fdata-sections

# Debian 12 has no .pc files for mbedTLS; then the libraries are named.
MBEDTLS_LIBS ?= $(shell $(PKG_CONFIG) --libs mbedtls mbedx509 mbedcrypto \
                2>/dev/null || echo -lmbedtls -lmbedx509 -lmbedcrypto)
CHECK_LIBS   ?= $(shell $(PKG_CONFIG) --libs check 2>/dev/null || \
                echo -lcheck -lsubunit -lm -lrt -lpthread)

ROOMS  = $(basename $(wildcard *.c))
OBJS   = $(ROOMS:%=$(BUILD)/%.o)
# For the tests: every room but the one with main().
PARTS  = $(filter-out $(BUILD)/relay.o,$(OBJS))
TESTS  = $(patsubst tests/%.c,$(BUILD)/tests_%.o,$(wildcard tests/test_*.c) \
         tests/unit.c)
TOOLS  = $(BUILD)/smarthost $(BUILD)/dns_probe

.PHONY: all help run test quick lint size fuzz clean install needs
all: $(BUILD)/lanpost

help:
	@echo 'make          build $(BUILD)/lanpost'
	@echo 'make run      build, start the try-out smarthost, send a mail through'
	@echo 'make test     install what the tests need, and run all of them'
	@echo 'make quick    the unit and dialogue tests alone'
	@echo 'make lint     formatting, clang-tidy, cppcheck, the floors'
	@echo 'make size     lines, function lengths, bytes'
	@echo 'make fuzz     each fuzz target for FUZZ_SECONDS (60)'
	@echo 'make install  to PREFIX ($(PREFIX)), below DESTDIR'

# make V=1 shows the commands.
CC_ = $(if $(V),,@echo '  cc  $<';) $(CC)
LD_ = $(if $(V),,@echo '  ld  $@';) $(CC)

$(BUILD)/lanpost: $(OBJS)
	$(LD_) $(LINKING) $(LDFLAGS) -o $@ $^ $(MBEDTLS_LIBS)

$(BUILD)/%.o: %.c Makefile $(wildcard config_local.h) | $(BUILD)
	$(CC_) $(BASE) $(WARNINGS) $(HARDENING) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tests_%.o: tests/%.c Makefile $(BUILD)/suite_list.h
	$(CC_) $(BASE) $(WARNINGS) $(CPPFLAGS) $(CFLAGS) -I. -I$(BUILD) -MMD -MP -c -o $@ $<

# Every tests/test_NAME.c has a suite_NAME(); a forgotten one cannot be.
$(BUILD)/suite_list.h: $(wildcard tests/test_*.c) | $(BUILD)
	@printf 'SUITE(%s)\n' $(patsubst tests/test_%.c,%,$^) > $@

$(BUILD)/unit: $(TESTS) $(PARTS)
	$(LD_) $(LDFLAGS) -o $@ $^ $(MBEDTLS_LIBS) $(CHECK_LIBS)

$(BUILD)/smarthost: $(BUILD)/tests_smarthost.o
	$(LD_) $(LDFLAGS) -o $@ $^ $(MBEDTLS_LIBS)

$(BUILD)/dns_probe: $(BUILD)/tests_dns_probe.o $(PARTS)
	$(LD_) $(LDFLAGS) -o $@ $^ $(MBEDTLS_LIBS)

$(BUILD):
	@mkdir -p $@

run:
	@tests/needs.sh run
	@$(MAKE) --no-print-directory all $(BUILD)/smarthost
	@BUILD=$(BUILD) tests/try_out.sh

test:
	@tests/needs.sh test
	@MAKE='$(MAKE)' BUILD=$(BUILD) tests/run.sh

quick: $(BUILD)/unit
	$(BUILD)/unit

lint:
	@tests/needs.sh lint
	tests/lint.sh

size: $(BUILD)/lanpost
	@tests/needs.sh size
	@STRIP=$(STRIP) tests/size.sh $(BUILD)/lanpost

FUZZ_SECONDS ?= 60
fuzz:
	@tests/needs.sh fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) BUILD=$(BUILD) tests/fuzz/run.sh

install: $(BUILD)/lanpost
	mkdir -p $(DESTDIR)$(PREFIX)/sbin
	cp $(BUILD)/lanpost $(DESTDIR)$(PREFIX)/sbin/lanpost

clean:
	rm -rf $(BUILD)

-include $(wildcard $(BUILD)/*.d)
