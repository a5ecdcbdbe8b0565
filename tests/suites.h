/* suites: one test suite per room. */
#ifndef LANPOST_TESTS_SUITES_H
#define LANPOST_TESTS_SUITES_H

#include <check.h>

Suite *suite_dns(void);

#endif
