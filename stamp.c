/* See stamp.h. */
#include "stamp.h"

#include <time.h>

const char *stamp_date(int64_t now_s, char out[STAMP_DATE_BYTES])
{
    time_t now = (time_t)now_s;
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(out, STAMP_DATE_BYTES, "%a, %d %b %Y %H:%M:%S %z", &tm);
    return out;
}

void stamp_put_message_id(int64_t now_s, uint32_t random, const char *id,
                          const char *hostname, struct buf *out)
{
    buf_format(out, "Message-ID: <%llx.%08x.%s@%s>\r\n",
               (unsigned long long)now_s, random, id, hostname);
}
