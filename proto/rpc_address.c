/* Addresses as people write them. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/num.h"
#include "base/str.h"
#include "proto/rpc_impl.h"

static enum base_code parse_unix(struct base_str path,
                                 const char *text,
                                 struct rpc_address *ret,
                                 struct base_err *err)
{
    const size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

    if (path.len == 0 || path.len > max) {
        return base_fail(err, BASE_BAD_ARG,
                         "address %s: a socket's path has 1 to %zu bytes", text,
                         max);
    }
    ret->family = RPC_FAMILY_UNIX;
    memcpy(ret->host, path.ptr, path.len);
    return BASE_OK;
}

/* Names are what a resolver takes; no percent, slash, comma or white space
 * that core would read as something else. */
static bool is_host(const char *host)
{
    for (const char *at = host; *at != '\0'; at++) {
        bool is_good = (*at >= 'a' && *at <= 'z') ||
                       (*at >= 'A' && *at <= 'Z') ||
                       (*at >= '0' && *at <= '9') || *at == '.' || *at == '-' ||
                       *at == '_';

        if (!is_good) {
            return false;
        }
    }
    return host[0] != '\0';
}

static bool is_loopback_name(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, host, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    if (inet_pton(AF_INET6, host, &v6) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&v6);
    }
    return strcmp(host, "localhost") == 0;
}

static enum base_code
parse_inet(struct base_str all, struct rpc_address *ret, struct base_err *err)
{
    const bool is_v6 = all.ptr[0] == '[';
    const char *colon = memrchr(all.ptr, ':', all.len);
    struct base_str host;
    struct base_str port;
    struct in6_addr v6;
    uint64_t number;

    if (colon == NULL) {
        return base_fail(err, BASE_BAD_ARG,
                         "address %s: want HOST:PORT or unix:PATH", all.ptr);
    }
    host = (struct base_str){all.ptr, (size_t)(colon - all.ptr)};
    port = (struct base_str){colon + 1, all.len - host.len - 1};
    if (!base_parse_u64(port, &number) || number > UINT16_MAX) {
        return base_fail(err, BASE_BAD_ARG,
                         "address %s: the port is not a number up to %d",
                         all.ptr, UINT16_MAX);
    }
    if (is_v6 && host.len >= 2 && host.ptr[host.len - 1] == ']') {
        host = (struct base_str){host.ptr + 1, host.len - 2};
    }
    if (host.len >= sizeof(ret->host)) {
        return base_fail(err, BASE_BAD_ARG, "address: a host of %zu bytes",
                         host.len);
    }
    memcpy(ret->host, host.ptr, host.len);
    ret->family = RPC_FAMILY_INET;
    ret->port = (uint16_t)number;
    if (is_v6 ? inet_pton(AF_INET6, ret->host, &v6) != 1
              : !is_host(ret->host)) {
        return base_fail(err, BASE_BAD_ARG,
                         "address %s: no host (IPv6 goes into [])", all.ptr);
    }
    ret->is_loopback = is_loopback_name(ret->host);
    return BASE_OK;
}

enum base_code rpc_address_parse(const char *text,
                                 struct rpc_address *ret,
                                 struct base_err *err)
{
    const struct base_str all = base_str_of(text);
    const struct base_str prefix = BASE_STR("unix:");
    struct rpc_address address = {0};
    enum base_code rc;

    if (base_str_starts(all, prefix)) {
        struct base_str path = {all.ptr + prefix.len, all.len - prefix.len};

        rc = parse_unix(path, text, &address, err);
    } else {
        rc = parse_inet(all, &address, err);
    }
    if (rc == BASE_OK) {
        *ret = address;
    }
    return rc;
}

struct rpc_uri rpc_address_uri(const struct rpc_address *address,
                               const char *text)
{
    struct rpc_uri uri;
    char *to = uri.text;
    const char *end = uri.text + sizeof(uri.text);

    if (address->family == RPC_FAMILY_INET) {
        (void)snprintf(to, sizeof(uri.text), "%s", text);
        return uri;
    }
    to += snprintf(to, sizeof(uri.text), "unix:");
    for (const char *at = address->host; *at != '\0'; at++) {
        to += snprintf(to, (size_t)(end - to), "%%%02X", (unsigned char)*at);
    }
    return uri;
}
