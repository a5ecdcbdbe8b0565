/* dns_files: what resolv.conf and hosts say.
 *
 * Both files are read line by line, at most DNS_FILE_MAX_BYTES of them;
 * whatever cannot be understood is passed over. Holds nothing.
 * Must never know: questions, sockets, time. */
#ifndef LANPOST_DNS_FILES_H
#define LANPOST_DNS_FILES_H

#include <stdbool.h>
#include <sys/stat.h>

#include "config.h"
#include "ip.h"

#define DNS_FILE_MAX_BYTES  (256 * 1024)
#define DNS_FILE_LINE_BYTES 1024

/* True when the file is not the one that seen describes, and describes it
 * then. A missing file is all zeroes. */
bool dns_files_has_changed(const char *path, struct stat *seen);

/* The first servers of a resolv.conf, and how many. Port 53 unless a line
 * says "nameserver [address]:port", as OpenBSD has it. */
unsigned dns_files_servers(const char *path,
                           struct ip_endpoint out[DNS_SERVERS_MAX]);

/* The addresses of a name in a hosts file, both families mixed, and how many;
 * what is beyond room is lost. */
unsigned dns_files_hosts(const char *path, const char *name,
                         struct ip_address *out, unsigned room);

#endif
