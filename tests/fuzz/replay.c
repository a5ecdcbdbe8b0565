/* Runs a fuzz target over the files named as arguments, without libFuzzer:
 * any compiler will do. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int replay(const char *name)
{
    FILE *in = fopen(name, "rb");
    long bytes = -1;
    if (in != NULL && fseek(in, 0, SEEK_END) == 0)
        bytes = ftell(in);
    if (bytes < 0) {
        perror(name);
        return 1;
    }
    rewind(in);
    uint8_t *data = malloc((size_t)bytes + 1);
    size_t got = fread(data, 1, (size_t)bytes, in);
    fclose(in);
    LLVMFuzzerTestOneInput(data, got);
    free(data);
    return got != (size_t)bytes;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++)
        failed += replay(argv[i]);
    printf("%d files\n", argc - 1);
    return failed == 0 && argc > 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
