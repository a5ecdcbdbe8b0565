/* All unit and dialogue tests in one runner: every tests/test_NAME.c exports
 * suite_NAME(), and the Makefile lists them. CK_RUN_SUITE picks one. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>

#define SUITE(name) Suite *suite_##name(void);
#include "suite_list.h"
#undef SUITE

int main(void)
{
    SRunner *runner = srunner_create(NULL);
    signal(SIGPIPE, SIG_IGN); /* as relay.c does */
#define SUITE(name) srunner_add_suite(runner, suite_##name());
#include "suite_list.h"
#undef SUITE
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    int run = srunner_ntests_run(runner);
    srunner_free(runner);
    /* A filter that matches nothing must not look like success. */
    return failed == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
