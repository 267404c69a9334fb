/* Input: an address as people write it.  What is taken is within its bounds,
 * written out it is taken again and is the same, and it is refused with a
 * text otherwise. */
#include "proto/rpc.h"
#include "tests/fuzz/fuzz.h"

static void check_good(const struct rpc_address *address)
{
    char text[RPC_HOST_BYTES + 16];
    struct rpc_address again = {0};
    const bool is_v6 = strchr(address->host, ':') != NULL;

    FUZZ_CHECK(memchr(address->host, '\0', sizeof(address->host)) != NULL);
    FUZZ_CHECK(address->host[0] != '\0');
    if (address->family == RPC_FAMILY_UNIX) {
        FUZZ_CHECK(!address->is_loopback && address->port == 0);
        (void)snprintf(text, sizeof(text), "unix:%s", address->host);
    } else {
        (void)snprintf(text, sizeof(text), is_v6 ? "[%s]:%u" : "%s:%u",
                       address->host, address->port);
    }
    FUZZ_CHECK(rpc_address_parse(text, &again, NULL) == BASE_OK);
    FUZZ_CHECK(memcmp(&again, address, sizeof(again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    BASE_AUTO_MEM char *text = strndup((const char *)data, size);
    struct rpc_address address = {0};
    struct base_err err = {0};

    if (text == NULL) {
        return 0;
    }
    if (rpc_address_parse(text, &address, &err) == BASE_OK) {
        check_good(&address);
    } else {
        FUZZ_CHECK(err.code == BASE_BAD_ARG);
        FUZZ_CHECK(strncmp(err.text, "address", 7) == 0);
        FUZZ_CHECK(address.host[0] == '\0'); /* not written to */
    }
    return 0;
}
