/* Certificates: read from files, and by a server again when they have changed.
 *
 * Core asks for a server's at every handshake.  The files' times and sizes say
 * whether there is something to read; a pair that does not fit together, half
 * of it replaced, is refused by core, which goes on with the one before, and the
 * other half's change makes us read again. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "proto/rpc_server_impl.h"

enum { MAX_PEM_BYTES = 1 << 20, N_FILES = 3 };

struct stamp {
    struct timespec mtime;
    off_t size;
    ino_t ino;
};

struct rpc_reloader {
    struct rpc_reloader *next;
    char *paths[N_FILES];         /* immutable: CA, certificate, key */
    pthread_mutex_t lock;         /* handshakes come on several threads */
    struct stamp stamps[N_FILES]; /* guarded by lock: of what was read last */
};

static enum base_code read_pem(const char *what,
                               const char *path,
                               struct base_buf *buf,
                               struct base_err *err)
{
    enum base_code rc;

    if (path == NULL) {
        return base_fail(err, BASE_BAD_ARG, "tls: no %s is given", what);
    }
    rc = base_file_read(AT_FDCWD, path, buf, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "tls: %s", what);
    }
    if (memmem(buf->ptr, buf->len, "-----BEGIN ", 11) == NULL ||
        memchr(buf->ptr, '\0', buf->len) != NULL) {
        return base_fail(err, BASE_BAD_INPUT, "tls: %s: %s is no PEM file",
                         what, path);
    }
    return BASE_OK;
}

struct pems {
    struct base_buf ca;
    struct base_buf cert;
    struct base_buf key;
};

static void pems_done(struct pems *pems)
{
    base_buf_done(&pems->ca);
    base_buf_done(&pems->cert);
    if (pems->key.ptr != NULL) {
        explicit_bzero(pems->key.ptr, pems->key.len);
    }
    base_buf_done(&pems->key);
}

static enum base_code
read_pems(const struct rpc_tls *tls, struct pems *pems, struct base_err *err)
{
    base_buf_init(&pems->ca, MAX_PEM_BYTES);
    base_buf_init(&pems->cert, MAX_PEM_BYTES);
    base_buf_init(&pems->key, MAX_PEM_BYTES);
    BASE_TRY(read_pem("ca", tls->ca_path, &pems->ca, err));
    BASE_TRY(read_pem("certificate", tls->cert_path, &pems->cert, err));
    return read_pem("key", tls->key_path, &pems->key, err);
}

enum base_code rpc_tls_client(const struct rpc_tls *tls,
                              grpc_channel_credentials **ret,
                              struct base_err *err)
{
    __attribute__((cleanup(pems_done))) struct pems pems;
    grpc_ssl_pem_key_cert_pair pair;

    BASE_TRY(read_pems(tls, &pems, err));
    pair = (grpc_ssl_pem_key_cert_pair){pems.key.ptr, pems.cert.ptr};
    *ret = grpc_ssl_credentials_create_ex(pems.ca.ptr, &pair, NULL, NULL);
    return BASE_OK;
}

static struct stamp stamp_of(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        return (struct stamp){{0}, -1, 0};
    }
    return (struct stamp){st.st_mtim, st.st_size, st.st_ino};
}

static bool is_same(const struct stamp *a, const struct stamp *b)
{
    return a->mtime.tv_sec == b->mtime.tv_sec &&
           a->mtime.tv_nsec == b->mtime.tv_nsec && a->size == b->size &&
           a->ino == b->ino;
}

/* Lock held. */
static grpc_ssl_certificate_config_reload_status
reload_locked(struct rpc_reloader *reloader,
              grpc_ssl_server_certificate_config **ret)
{
    __attribute__((cleanup(pems_done))) struct pems pems;
    struct stamp now[N_FILES];
    bool has_changed = false;
    grpc_ssl_pem_key_cert_pair pair;
    const struct rpc_tls tls = {
        .ca_path = reloader->paths[0],
        .cert_path = reloader->paths[1],
        .key_path = reloader->paths[2],
    };

    memset(&pems, 0, sizeof(pems));
    for (size_t i = 0; i < N_FILES; i++) {
        now[i] = stamp_of(reloader->paths[i]);
        has_changed = has_changed || !is_same(&now[i], &reloader->stamps[i]);
    }
    if (!has_changed) {
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    if (read_pems(&tls, &pems, NULL) != BASE_OK) {
        /* The old ones stay, and the next handshake looks again. */
        return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
    }
    memcpy(reloader->stamps, now, sizeof(now));
    pair = (grpc_ssl_pem_key_cert_pair){pems.key.ptr, pems.cert.ptr};
    *ret = grpc_ssl_server_certificate_config_create(pems.ca.ptr, &pair, 1);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

static grpc_ssl_certificate_config_reload_status
reload(void *ctx, grpc_ssl_server_certificate_config **ret)
{
    struct rpc_reloader *reloader = ctx;
    grpc_ssl_certificate_config_reload_status status;

    (void)pthread_mutex_lock(&reloader->lock);
    status = reload_locked(reloader, ret);
    (void)pthread_mutex_unlock(&reloader->lock);
    return status;
}

void rpc_reloaders_free(struct rpc_reloader *list)
{
    while (list != NULL) {
        struct rpc_reloader *reloader = list;

        list = reloader->next;
        for (size_t i = 0; i < N_FILES; i++) {
            free(reloader->paths[i]);
        }
        (void)pthread_mutex_destroy(&reloader->lock);
        free(reloader);
    }
}

/* The paths were read from a moment ago, so all of them are there. */
static struct rpc_reloader *reloader_create(const struct rpc_tls *tls)
{
    struct rpc_reloader *reloader = calloc(1, sizeof(*reloader));

    if (reloader == NULL) {
        return NULL;
    }
    (void)pthread_mutex_init(&reloader->lock, NULL);
    reloader->paths[0] = base_path("%s", tls->ca_path);
    reloader->paths[1] = base_path("%s", tls->cert_path);
    reloader->paths[2] = base_path("%s", tls->key_path);
    if (reloader->paths[0] == NULL || reloader->paths[1] == NULL ||
        reloader->paths[2] == NULL) {
        rpc_reloaders_free(reloader);
        return NULL;
    }
    return reloader;
}

enum base_code rpc_tls_server(const struct rpc_tls *tls,
                              struct rpc_reloader **list,
                              grpc_server_credentials **ret,
                              struct base_err *err)
{
    __attribute__((cleanup(pems_done))) struct pems pems;
    grpc_ssl_server_credentials_options *options;
    struct rpc_reloader *reloader;

    BASE_TRY(read_pems(tls, &pems, err)); /* told now rather than in a log */
    reloader = reloader_create(tls);
    if (reloader == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot hold certificates");
    }
    reloader->next = *list;
    *list = reloader;
    options = grpc_ssl_server_credentials_create_options_using_config_fetcher(
        GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, reload,
        reloader);
    *ret = grpc_ssl_server_credentials_create_with_options(options);
    return BASE_OK;
}
