/* link: a non-blocking line stream with buffers and a deadline, plain or TLS.
 *
 * A link owns its fd and its TLS session; the owner of the link owns the two
 * buffers. What it waits for is computed from the buffers, never stored.
 * Must never know: protocols. */
#ifndef LANPOST_LINK_H
#define LANPOST_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "tls.h"

struct poller;

enum link_step {
    LINK_CLOSED, /* zero = no fd */
    LINK_CONNECTING,
    LINK_HANDSHAKE,
    LINK_UP
};

struct link {
    enum link_step step;
    int fd;
    int slot; /* in this turn's poller */
    struct tls *tls;
    struct buf in, out;
    int64_t deadline_ms; /* absolute; the owner sets it anew for each wait */
    bool has_ended; /* the peer sends no more; in may hold its last words */
    bool is_shut;   /* the peer has shut its side, or died; seen unread */
    bool was_reset; /* has_ended, and not by a shut: no word of ours arrives */
    bool is_broken; /* nothing can be sent any more */
    char why[TLS_WHY_BYTES]; /* of has_ended and is_broken, plain words */
};

/* Takes over an fd: connected, or (is_connecting) on its way. */
void link_open(struct link *l, int fd, bool is_connecting, void *in,
               size_t in_bytes, void *out, size_t out_bytes);

/* Starts TLS towards a server that must prove to be name, or, with name NULL,
 * with a device. False: no session was free; the link stays as it is. */
bool link_start_tls(struct link *l, const char *name);

/* Closes fd and TLS, wipes both buffers, leaves the link LINK_CLOSED. */
void link_close(struct link *l);

/* wants_input: the owner has a place for what may come. */
void link_prep(struct link *l, struct poller *p, bool wants_input);

/* Connects, shakes hands, reads what came and sends what is waiting. The
 * owner then looks at step, in, has_ended, is_broken. */
void link_run(struct link *l, const struct poller *p, bool wants_input);

/* Sends what is waiting, as far as the peer takes it; for the end of a turn,
 * so that an answer leaves in the turn that made it. */
void link_flush(struct link *l);

/* The first byte that lies unread at the fd; -1: none has come; LINK_ENDED:
 * none will. It stays there. */
#define LINK_ENDED (-2)
int link_peek(const struct link *l);

/* Something that we said has not arrived yet, or never will. */
bool link_has_unheard(const struct link *l);

/* Ends our side: the peer is told, and may still be read. */
void link_shut(struct link *l);

bool link_is_late(const struct link *l, int64_t now_ms);

#endif
