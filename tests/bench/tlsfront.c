/*
 * tlsfront: TLS in front of a plain server on the same machine, for measuring upload clients.
 *
 * A thread for each connection and blocks of 256 KiB, so that nearly all of its CPU is the decryption (AES-GCM, well over
 * 1 GB/s a core). It shares the machine's cores with the client, which is the same for every client.
 *
 *   cc -O2 -o tlsfront tlsfront.c -lssl -lcrypto -lpthread && ./tlsfront PORT TARGET-PORT CERTIFICATES.pem KEY.pem
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK (256 << 10)
#define RECORD (16 << 10) /* the most that SSL_read gives at once */

static SSL_CTX *context;
static struct sockaddr_in target = {.sin_family = AF_INET};

static int send_all(int fd, const char *data, size_t length) {
    while (length) {
        ssize_t k = send(fd, data, length, 0);
        if (k <= 0) return -1;
        data += k;
        length -= k;
    }
    return 0;
}

/* What the client sent, as much as is there, up to a block. Returns -1 when it sends no more. */
static int upstream(SSL *tls, int server, char *block) {
    int used = 0, k;
    do {
        if ((k = SSL_read(tls, block + used, BLOCK - used)) <= 0) return -1;
        used += k;
    } while (used <= BLOCK - RECORD && SSL_has_pending(tls));
    return send_all(server, block, used);
}

static int downstream(SSL *tls, int server, char *block) {
    ssize_t k = recv(server, block, BLOCK, 0);
    return k > 0 && SSL_write(tls, block, k) > 0 ? 0 : -1;
}

static void pump(SSL *tls, int client, int server, char *block) {
    struct pollfd ends[2] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
    for (;;) {
        if (SSL_has_pending(tls)) ends[0].revents = POLLIN, ends[1].revents = 0;
        else if (poll(ends, 2, -1) < 0) return;
        if (ends[0].revents && upstream(tls, server, block) < 0) return;
        if (ends[1].revents && downstream(tls, server, block) < 0) return;
    }
}

static void *serve(void *argument) {
    int client = (int)(intptr_t)argument, server = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    SSL *tls = SSL_new(context);
    char *block = malloc(BLOCK);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    SSL_set_fd(tls, client);
    if (SSL_accept(tls) == 1 && !connect(server, (void *)&target, sizeof target)) pump(tls, client, server, block);
    SSL_shutdown(tls);
    SSL_free(tls);
    free(block);
    close(client);
    close(server);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: tlsfront PORT TARGET-PORT CERTIFICATES KEY\n"), 2;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    target.sin_port = htons(atoi(argv[2]));
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, BLOCK);
    if (SSL_CTX_use_certificate_chain_file(context, argv[3]) != 1 || SSL_CTX_use_PrivateKey_file(context, argv[4], SSL_FILETYPE_PEM) != 1)
        return fprintf(stderr, "tlsfront: the certificate or its key cannot be used\n"), 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 1024)) return perror("tlsfront"), 1;
    for (int client; (client = accept(listener, NULL, NULL)) >= 0;) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)client)) close(client);
        else pthread_detach(thread);
    }
    return perror("tlsfront"), 1;
}
