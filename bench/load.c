/*
 * The load of the bench: a backend, the clients that measure through whatever leads to it, and a proxy that makes a link long.
 *
 *   load server HOST:PORT [--tls FOLDER]
 *   load bulk HOST:PORT up|down STREAMS SECONDS [--tls FOLDER]
 *   load ping HOST:PORT SECONDS [--tls FOLDER]
 *   load connect HOST:PORT CLIENTS SECONDS [--tls FOLDER]
 *   load idle HOST:PORT STREAMS                                   holds them until its input ends
 *   load stalled HOST:PORT READERS SECONDS                        one stream alone, and beside readers that do not read
 *   load delay HOST:PORT HOST:PORT                                each way as many milliseconds as the newest line of its input says
 *
 * Every client prints one line of JSON. With --tls, both sides speak TLS 1.3 and show certificates: server.pem and server.key, client.pem and
 * client.key, ca.pem of the folder. The backend is one thread, so that it takes from the tunnel under test no more of the machine than it must.
 *
 * What a client says first is a `struct hello`. Bulk bytes go in blocks of BLOCK bytes, whose first byte says whether it is the last: so no figure
 * depends on how an end of a stream passes through, and the clock stops when the last byte has arrived.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BLOCK = 256 * 1024,
    MESSAGE = 100,          /* bytes of a ping, and of a request with its answer */
    PATIENCE = 20 * 1000,   /* milliseconds without any progress after which a measurement has failed */
    MOST_SAMPLES = 1000000,
    MOST_EVENTS = 256,
    MOST_TURNS = 8,         /* system calls for one connection before others have their turn */
};
enum { UP = 'U', DOWN = 'D', ECHO = 'E', HANDSHAKE = 'H', ANSWER = 'A' };  /* HANDSHAKE, ANSWER: one message back; then another hello, or the end */
enum { MORE = 0, LAST = 1 };
#define ENDLESS UINT32_MAX

struct hello {
    uint8_t what;
    uint8_t unused[3];
    uint32_t milliseconds;  /* for how long the backend sends */
};

static void give_up(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(2);
}

/* Of a call that has just said why in errno. */
static void fail(const char *what) { give_up(what, strerror(errno)); }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) fail("out of memory");
    return memory;
}

/* --- Sockets, with TLS or without ------------------------------------------------------------------------------------------------------------ */

struct connection {
    int socket;
    SSL *tls;  /* NULL without */
    const char *ended;  /* why nothing more goes through it; NULL while it is well */
};

/* Results of reading and writing that are no number of bytes. */
enum { ENDED = 0, WOULD_BLOCK = -1, BROKEN = -2 };

static struct sockaddr_in address_of(const char *text) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strrchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof host) {
        fprintf(stderr, "%s is not HOST:PORT\n", text);
        exit(2);
    }
    memcpy(host, text, colon - text);
    host[colon - text] = 0;
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "%s is no IPv4 address\n", host);
        exit(2);
    }
    address.sin_port = htons(atoi(colon + 1));
    return address;
}

static void send_at_once(int socket) {
    int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int listen_at(const char *where) {
    struct sockaddr_in address = address_of(where);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) != 0) fail("bind");
    if (listen(listening, 4096) != 0) fail("listen");
    return listening;
}

static SSL_CTX *tls_context(const char *folder, bool server) {
    const char *name = server ? "server" : "client";
    char authority[512], certificate[512], key[512];
    snprintf(authority, sizeof authority, "%s/ca.pem", folder);
    snprintf(certificate, sizeof certificate, "%s/%s.pem", folder, name);
    snprintf(key, sizeof key, "%s/%s.key", folder, name);
    SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");  /* what all baselines are told */
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1 || SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(context, authority, NULL) != 1) {
        ERR_print_errors_fp(stderr);
        exit(2);
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, BLOCK);
    /* A session that is resumed needs a name, and the clients here are as new as a connection of theirs. */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    return context;
}

static SSL *tls_over(SSL_CTX *context, int socket, bool server) {
    SSL *tls = SSL_new(context);
    SSL_set_fd(tls, socket);
    if (server)
        SSL_set_accept_state(tls);
    else
        SSL_set_connect_state(tls);
    return tls;
}

static ssize_t broken(struct connection *connection, const char *why) {
    connection->ended = why;
    return BROKEN;
}

static ssize_t ended(struct connection *connection) {
    connection->ended = "the other side has ended it";
    return ENDED;
}

static ssize_t tls_result(struct connection *connection, int result) {
    switch (SSL_get_error(connection->tls, result)) {
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE:
            return WOULD_BLOCK;
        case SSL_ERROR_ZERO_RETURN:
            return ended(connection);
        case SSL_ERROR_SYSCALL:
            return broken(connection, errno != 0 ? strerror(errno) : "ended without a farewell");
        default: {
            const char *reason = ERR_reason_error_string(ERR_peek_last_error());
            return broken(connection, reason != NULL ? reason : "TLS has failed");
        }
    }
}

/* What a call before this one has left in OpenSSL's queue would be taken for an error of the next. */
static void forget_errors(void) {
    ERR_clear_error();
    errno = 0;
}

static ssize_t receive(struct connection *connection, void *into, size_t size) {
    if (connection->tls != NULL) {
        forget_errors();
        int count = SSL_read(connection->tls, into, size);
        return count > 0 ? count : tls_result(connection, count);
    }
    ssize_t count = recv(connection->socket, into, size, 0);
    if (count < 0) return errno == EAGAIN || errno == EINTR ? WOULD_BLOCK : broken(connection, strerror(errno));
    return count > 0 || size == 0 ? count : ended(connection);
}

static ssize_t transmit(struct connection *connection, const void *from, size_t size) {
    if (connection->tls != NULL) {
        forget_errors();
        int count = SSL_write(connection->tls, from, size);
        return count > 0 ? count : tls_result(connection, count);
    }
    ssize_t count = send(connection->socket, from, size, MSG_NOSIGNAL);
    if (count < 0) return errno == EAGAIN || errno == EINTR ? WOULD_BLOCK : broken(connection, strerror(errno));
    return count;
}

static bool receive_all(struct connection *connection, void *into, size_t size) {
    for (char *next = into; size > 0;) {
        ssize_t count = receive(connection, next, size);
        if (count <= 0) return false;
        next += count;
        size -= count;
    }
    return true;
}

static bool transmit_all(struct connection *connection, const void *from, size_t size) {
    for (const char *next = from; size > 0;) {
        ssize_t count = transmit(connection, next, size);
        if (count <= 0) return false;
        next += count;
        size -= count;
    }
    return true;
}

static void hang_up(struct connection *connection) {
    if (connection->tls != NULL) {
        /* OpenSSL has nothing to say goodbye to before the handshake is done, nor after an error. */
        if (connection->ended == NULL && !SSL_in_init(connection->tls)) {
            forget_errors();
            SSL_shutdown(connection->tls);
        }
        SSL_free(connection->tls);
    }
    close(connection->socket);
}

/* A blocking connection on which no single wait lasts longer than PATIENCE; false where it cannot be made. */
static bool dial(struct connection *connection, const struct sockaddr_in *address, SSL_CTX *context) {
    struct timeval patience = {.tv_sec = PATIENCE / 1000};
    *connection = (struct connection){.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    send_at_once(connection->socket);
    setsockopt(connection->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(connection->socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(connection->socket, (const struct sockaddr *)address, sizeof *address) != 0) {
        close(connection->socket);
        return false;
    }
    if (context == NULL) return true;
    connection->tls = tls_over(context, connection->socket, false);
    forget_errors();
    int result = SSL_connect(connection->tls);
    if (result == 1) return true;
    tls_result(connection, result);
    hang_up(connection);
    return false;
}

/* For a blocking connection: what has kept it from going on. */
static const char *reason(const struct connection *connection) {
    return connection->ended != NULL ? connection->ended : "no progress for too long";
}

static void dial_or_fail(struct connection *connection, const struct sockaddr_in *address, SSL_CTX *context) {
    if (!dial(connection, address, context)) give_up("connect", connection->ended != NULL ? connection->ended : strerror(errno));
}

static void watch(int poll, int what, int socket, uint32_t events, void *whose) {
    struct epoll_event event = {.events = events, .data.ptr = whose};
    if (epoll_ctl(poll, what, socket, &event) != 0) fail("epoll_ctl");
}

static void stop_blocking(int socket) { fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK); }

/* --- Bulk: the same two state machines for backend and client --------------------------------------------------------------------------------- */

static char block_more[BLOCK] = {MORE}, block_last[BLOCK] = {LAST}, scratch[BLOCK];

struct sending {
    double until;
    size_t position;  /* in the block */
    bool chosen;      /* which block it is: OpenSSL keeps what it could not send, so it stays that one */
    bool last;
};

struct receiving {
    uint64_t total;
    size_t position;
    bool last;
};

/* Send what fits; a positive number while there is more to send, ENDED when the last block is out, WOULD_BLOCK or BROKEN. */
static ssize_t go_on_sending(struct connection *connection, struct sending *sending) {
    if (!sending->chosen) sending->last = now() >= sending->until;
    sending->chosen = true;
    const char *block = sending->last ? block_last : block_more;
    ssize_t count = transmit(connection, block + sending->position, BLOCK - sending->position);
    if (count <= 0) return count == ENDED ? BROKEN : count;
    sending->position = (sending->position + count) % BLOCK;
    sending->chosen = sending->position != 0 || sending->last;
    return sending->position == 0 && sending->last ? ENDED : count;
}

/* Receive what is there; a positive number while more has to come, ENDED when the last block is in, WOULD_BLOCK or BROKEN. */
static ssize_t go_on_receiving(struct connection *connection, struct receiving *receiving) {
    ssize_t count = receive(connection, scratch, BLOCK - receiving->position);
    if (count <= 0) return count == ENDED ? BROKEN : count;
    if (receiving->position == 0) receiving->last = scratch[0] == LAST;
    receiving->total += count;
    receiving->position = (receiving->position + count) % BLOCK;
    return receiving->position == 0 && receiving->last ? ENDED : count;
}

/* --- The backend -------------------------------------------------------------------------------------------------------------------------------- */

struct guest {
    struct connection connection;
    struct hello hello;
    size_t greeted;  /* bytes of the hello that are in */
    struct sending sending;
    struct receiving receiving;
    char message[MESSAGE];
    size_t filled;
};

/* Read the hello, and do what its kind needs first; as `serve`. */
static ssize_t greet(int poll, struct guest *guest) {
    ssize_t count = receive(&guest->connection, (char *)&guest->hello + guest->greeted, sizeof guest->hello - guest->greeted);
    if (count <= 0) return count == ENDED ? BROKEN : count;
    guest->greeted += count;
    if (guest->greeted == sizeof guest->hello && guest->hello.what == DOWN) {
        bool endless = guest->hello.milliseconds == ENDLESS;
        guest->sending = (struct sending){.until = endless ? 1e300 : now() + guest->hello.milliseconds / 1e3};
        watch(poll, EPOLL_CTL_MOD, guest->connection.socket, EPOLLOUT, guest);
    }
    return count;
}

/* One step for a guest: a positive number to be called again at once, WOULD_BLOCK to be called when the socket is ready, BROKEN at the end. */
static ssize_t serve(int poll, struct guest *guest) {
    if (guest->greeted < sizeof guest->hello) return greet(poll, guest);
    struct connection *connection = &guest->connection;
    ssize_t count;
    switch (guest->hello.what) {
        case UP:
            count = go_on_receiving(connection, &guest->receiving);
            if (count != ENDED) return count;
            guest->greeted = 0;
            count = transmit(connection, &guest->receiving.total, sizeof guest->receiving.total);
            guest->receiving = (struct receiving){0};
            return count > 0 ? count : BROKEN;
        case DOWN:
            count = go_on_sending(connection, &guest->sending);
            if (count != ENDED) return count;
            guest->greeted = 0;
            watch(poll, EPOLL_CTL_MOD, connection->socket, EPOLLIN, guest);
            return WOULD_BLOCK;
        case ECHO:
            count = receive(connection, scratch, 4096);
            if (count <= 0) return count == ENDED ? BROKEN : count;
            return transmit(connection, scratch, count) == count ? count : BROKEN;
        default:
            count = receive(connection, guest->message + guest->filled, MESSAGE - guest->filled);
            if (count <= 0) return count == ENDED ? BROKEN : count;
            guest->filled += count;
            if (guest->filled < MESSAGE) return count;
            count = transmit(connection, guest->message, MESSAGE);
            if (guest->hello.what != HANDSHAKE || count != MESSAGE) return BROKEN;
            guest->greeted = guest->filled = 0;
            return count;
    }
}

static void welcome(int poll, int listening, SSL_CTX *context) {
    for (;;) {
        int socket = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (socket < 0) return;
        send_at_once(socket);
        struct guest *guest = allocate(1, sizeof *guest);
        guest->connection.socket = socket;
        if (context != NULL) guest->connection.tls = tls_over(context, socket, true);
        watch(poll, EPOLL_CTL_ADD, socket, EPOLLIN, guest);
    }
}

static void run_server(const char *where, SSL_CTX *context) {
    int listening = listen_at(where), poll = epoll_create1(EPOLL_CLOEXEC);
    stop_blocking(listening);
    watch(poll, EPOLL_CTL_ADD, listening, EPOLLIN, NULL);
    for (;;) {
        struct epoll_event events[MOST_EVENTS];
        int count = epoll_wait(poll, events, MOST_EVENTS, -1);
        for (int each = 0; each < count; each++) {
            struct guest *guest = events[each].data.ptr;
            if (guest == NULL) {
                welcome(poll, listening, context);
                continue;
            }
            ssize_t step = 1;
            /* OpenSSL may hold what the socket has given already, of which epoll knows nothing: so until there is no more. */
            for (int turn = 0; step > 0 && (turn < MOST_TURNS || context != NULL); turn++) step = serve(poll, guest);
            if (step == BROKEN) {
                hang_up(&guest->connection);
                free(guest);
            }
        }
    }
}

/* --- The clients --------------------------------------------------------------------------------------------------------------------------------- */

static void say(struct connection *connection, uint8_t what, uint32_t milliseconds) {
    struct hello hello = {.what = what, .milliseconds = milliseconds};
    if (!transmit_all(connection, &hello, sizeof hello)) give_up("sending", reason(connection));
}

struct stream {
    struct connection connection;
    struct sending sending;
    struct receiving receiving;
    bool sent;
    uint64_t arrived;  /* as the backend says at the end */
    size_t told;       /* bytes of that which are in */
};

static ssize_t go_up(int poll, struct stream *stream) {
    if (!stream->sent) {
        ssize_t step = go_on_sending(&stream->connection, &stream->sending);
        if (step != ENDED) return step;
        stream->sent = true;
        watch(poll, EPOLL_CTL_MOD, stream->connection.socket, EPOLLIN, stream);
    }
    ssize_t count = receive(&stream->connection, (char *)&stream->arrived + stream->told, sizeof stream->arrived - stream->told);
    if (count <= 0) return count == ENDED ? BROKEN : count;
    stream->told += count;
    return stream->told == sizeof stream->arrived ? ENDED : count;
}

struct moved {
    uint64_t bytes;
    double megabytes_a_second;  /* of 10^6 bytes, from the first byte sent until the last one arrived */
};

/* A message there and back: what a tunnel has still to do for a new stream (a handshake of its own, if need be) is over then. */
static bool answers(struct connection *connection) {
    char message[MESSAGE] = {0};
    return transmit_all(connection, message, MESSAGE) && receive_all(connection, message, MESSAGE);
}

static struct moved move(const struct sockaddr_in *address, bool up, int count, double seconds, SSL_CTX *context) {
    struct stream *streams = allocate(count, sizeof *streams);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    for (int each = 0; each < count; each++) {
        struct connection *connection = &streams[each].connection;
        dial_or_fail(connection, address, context);
        say(connection, HANDSHAKE, 0);
        if (!answers(connection)) give_up("bulk, the first message", reason(connection));
    }
    double begun = now();
    for (int each = 0; each < count; each++) {
        struct stream *stream = &streams[each];
        stream->sending.until = begun + seconds;
        say(&stream->connection, up ? UP : DOWN, seconds * 1e3);
        stop_blocking(stream->connection.socket);
        watch(poll, EPOLL_CTL_ADD, stream->connection.socket, up ? EPOLLOUT : EPOLLIN, stream);
    }
    uint64_t total = 0;
    for (int left = count; left > 0;) {
        struct epoll_event events[MOST_EVENTS];
        int ready = epoll_wait(poll, events, MOST_EVENTS, PATIENCE);
        if (ready == 0) errno = ETIMEDOUT;
        if (ready <= 0) fail("bulk");
        for (int each = 0; each < ready; each++) {
            struct stream *stream = events[each].data.ptr;
            ssize_t step = 1;
            for (int turn = 0; step > 0 && (turn < MOST_TURNS || context != NULL); turn++)
                step = up ? go_up(poll, stream) : go_on_receiving(&stream->connection, &stream->receiving);
            if (step == BROKEN) give_up("bulk, a stream", reason(&stream->connection));
            if (step != ENDED) continue;
            left--;
            total += up ? stream->arrived : stream->receiving.total;
            epoll_ctl(poll, EPOLL_CTL_DEL, stream->connection.socket, NULL);
        }
    }
    double taken = now() - begun;
    for (int each = 0; each < count; each++) hang_up(&streams[each].connection);
    close(poll);
    free(streams);
    return (struct moved){.bytes = total, .megabytes_a_second = total / taken / 1e6};
}

struct samples {
    double *seconds;
    size_t count;
};

static void add_sample(struct samples *samples, double seconds) {
    if (samples->seconds == NULL) samples->seconds = allocate(MOST_SAMPLES, sizeof *samples->seconds);
    if (samples->count < MOST_SAMPLES) samples->seconds[samples->count++] = seconds;
}

static int by_size(const void *first, const void *second) {
    double difference = *(const double *)first - *(const double *)second;
    return (difference > 0) - (difference < 0);
}

/* Sorts the samples; in milliseconds. */
static double percentile(struct samples *samples, double share) {
    if (samples->count == 0) give_up("latency", "nothing was answered in time");
    qsort(samples->seconds, samples->count, sizeof *samples->seconds, by_size);
    return samples->seconds[(size_t)(samples->count * share)] * 1e3;
}

static void run_ping(const struct sockaddr_in *address, double seconds, SSL_CTX *context) {
    enum { WARM_UP = 20 };
    struct connection connection;
    struct samples samples = {0};
    dial_or_fail(&connection, address, context);
    say(&connection, ECHO, 0);
    double until = 0;
    for (int each = 0; each <= WARM_UP || now() < until; each++) {
        if (each == WARM_UP - 1) until = now() + seconds;
        double begun = now();
        if (!answers(&connection)) give_up("ping", reason(&connection));
        if (each >= WARM_UP) add_sample(&samples, now() - begun);
    }
    hang_up(&connection);
    printf("{\"p50\": %.5f, \"p99\": %.5f, \"count\": %zu}\n", percentile(&samples, 0.50), percentile(&samples, 0.99), samples.count);
}

struct client {
    pthread_t thread;
    const struct sockaddr_in *address;
    SSL_CTX *context;
    double until;
    struct samples samples;
    int failed;
};

/* Connects, asks, is answered and sees the end, again and again; what is timed ends with the answer. */
static void *connect_again_and_again(void *argument) {
    struct client *client = argument;
    struct {
        struct hello hello;
        char message[MESSAGE];
    } request = {.hello = {.what = ANSWER}};
    char answer[MESSAGE];
    while (now() < client->until) {
        struct connection connection;
        double begun = now();
        if (!dial(&connection, client->address, client->context)) {
            client->failed++;
            usleep(1000);
            continue;
        }
        bool answered = transmit_all(&connection, &request, sizeof request) && receive_all(&connection, answer, MESSAGE);
        if (answered)
            add_sample(&client->samples, now() - begun);
        else
            client->failed++;
        /* The backend hangs up first: else this side would run out of ports. */
        receive(&connection, answer, 1);
        hang_up(&connection);
    }
    return NULL;
}

static void run_connect(const struct sockaddr_in *address, int count, double seconds, SSL_CTX *context) {
    struct client *clients = allocate(count, sizeof *clients);
    double begun = now();
    for (int each = 0; each < count; each++) {
        clients[each] = (struct client){.address = address, .context = context, .until = begun + seconds};
        if (pthread_create(&clients[each].thread, NULL, connect_again_and_again, &clients[each]) != 0) fail("thread");
    }
    for (int each = 0; each < count; each++) pthread_join(clients[each].thread, NULL);
    double taken = now() - begun;
    struct samples all = {0};
    int failed = 0;
    for (int each = 0; each < count; each++) {
        failed += clients[each].failed;
        for (size_t sample = 0; sample < clients[each].samples.count; sample++) add_sample(&all, clients[each].samples.seconds[sample]);
    }
    double p50 = percentile(&all, 0.50), p99 = percentile(&all, 0.99);
    printf("{\"per_second\": %.1f, \"p50\": %.5f, \"p99\": %.5f, \"failed\": %d}\n", all.count / taken, p50, p99, failed);
}

static void run_idle(const struct sockaddr_in *address, int count) {
    struct connection *connections = allocate(count, sizeof *connections);
    char message[MESSAGE] = {0};
    for (int each = 0; each < count; each++) {
        dial_or_fail(&connections[each], address, NULL);
        say(&connections[each], ECHO, 0);
        if (!answers(&connections[each])) give_up("idle", reason(&connections[each]));
    }
    printf("{\"open\": %d}\n", count);
    fflush(stdout);
    while (read(STDIN_FILENO, message, sizeof message) > 0) continue;
}

/* Return once nothing more arrives, and what is on the way has had its time to fill every buffer there is. */
static void wait_until_full(struct connection *readers, int count) {
    enum { STEP = 100 * 1000, QUIET_STEPS = 5, MOST_STEPS = 100 };
    long before = -1;
    for (int step = 0, quiet = 0; step < MOST_STEPS && quiet < QUIET_STEPS; step++) {
        long waiting = 0;
        for (int each = 0; each < count; each++) {
            int size = 0;
            ioctl(readers[each].socket, FIONREAD, &size);
            waiting += size;
        }
        quiet = waiting == before ? quiet + 1 : 0;
        before = waiting;
        usleep(STEP);
    }
}

static void run_stalled(const struct sockaddr_in *address, int count, double seconds) {
    double alone = move(address, false, 1, seconds, NULL).megabytes_a_second;
    struct connection *readers = allocate(count, sizeof *readers);
    for (int each = 0; each < count; each++) {
        dial_or_fail(&readers[each], address, NULL);
        say(&readers[each], DOWN, ENDLESS);
    }
    wait_until_full(readers, count);
    double beside = move(address, false, 1, seconds, NULL).megabytes_a_second;
    for (int each = 0; each < count; each++) hang_up(&readers[each]);
    printf("{\"alone\": %.2f, \"beside\": %.2f}\n", alone, beside);
}

/* --- The long link ------------------------------------------------------------------------------------------------------------------------------- */

enum { MOST_ON_THE_WAY = 96 * 1024 * 1024 };

struct chunk {
    struct chunk *next;
    double due;
    ssize_t size;  /* 0: the end */
    char bytes[];
};

static _Atomic double delay_seconds = 0;

struct lane {
    int from, to;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct chunk *first, **end;
    size_t on_the_way;
};

static void *enter_lane(void *argument) {
    struct lane *lane = argument;
    for (;;) {
        struct chunk *chunk = allocate(1, sizeof *chunk + BLOCK / 4);
        chunk->size = recv(lane->from, chunk->bytes, BLOCK / 4, 0);
        if (chunk->size < 0) chunk->size = 0;
        chunk->due = now() + delay_seconds;
        bool over = chunk->size == 0;
        if (chunk->size < BLOCK / 8) chunk = realloc(chunk, sizeof *chunk + chunk->size);
        pthread_mutex_lock(&lane->lock);
        while (lane->on_the_way > MOST_ON_THE_WAY) pthread_cond_wait(&lane->changed, &lane->lock);
        lane->on_the_way += chunk->size;
        *lane->end = chunk;
        lane->end = &chunk->next;
        pthread_cond_broadcast(&lane->changed);
        pthread_mutex_unlock(&lane->lock);
        if (over) return NULL;
    }
}

static void *leave_lane(void *argument) {
    struct lane *lane = argument;
    struct connection to = {.socket = lane->to};
    for (;;) {
        pthread_mutex_lock(&lane->lock);
        while (lane->first == NULL) pthread_cond_wait(&lane->changed, &lane->lock);
        struct chunk *chunk = lane->first;
        lane->first = chunk->next;
        if (lane->first == NULL) lane->end = &lane->first;
        pthread_mutex_unlock(&lane->lock);
        double wait = chunk->due - now();
        if (wait > 0) usleep(wait * 1e6);
        if (chunk->size == 0) {
            shutdown(lane->to, SHUT_WR);
            return NULL;
        }
        if (!transmit_all(&to, chunk->bytes, chunk->size)) shutdown(lane->from, SHUT_RDWR);
        pthread_mutex_lock(&lane->lock);
        lane->on_the_way -= chunk->size;
        pthread_cond_broadcast(&lane->changed);
        pthread_mutex_unlock(&lane->lock);
        free(chunk);
    }
}

static void start_lane(int from, int to) {
    struct lane *lane = allocate(1, sizeof *lane);
    *lane = (struct lane){.from = from, .to = to, .end = &lane->first};
    pthread_mutex_init(&lane->lock, NULL);
    pthread_cond_init(&lane->changed, NULL);
    void *(*ends[])(void *) = {enter_lane, leave_lane};
    for (int each = 0; each < 2; each++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, ends[each], lane) != 0) fail("thread");
        pthread_detach(thread);
    }
}

static void *follow_input(void *unused) {
    double milliseconds;
    while (scanf("%lf", &milliseconds) == 1) delay_seconds = milliseconds / 1e3;
    exit(0);
    return unused;
}

static void run_delay(const char *where, const struct sockaddr_in *target) {
    int listening = listen_at(where);
    pthread_t input;
    if (pthread_create(&input, NULL, follow_input, NULL) != 0) fail("thread");
    for (;;) {
        int from = accept(listening, NULL, NULL);
        if (from < 0) continue;
        send_at_once(from);
        int to = socket(AF_INET, SOCK_STREAM, 0);
        send_at_once(to);
        if (connect(to, (const struct sockaddr *)target, sizeof *target) != 0) {
            close(from);
            close(to);
            continue;
        }
        start_lane(from, to);
        start_lane(to, from);
    }
}

/* --- The command line ---------------------------------------------------------------------------------------------------------------------------- */

int main(int count, char **words) {
    SSL_CTX *context = NULL;
    signal(SIGPIPE, SIG_IGN);
    const char *what = count > 2 ? words[1] : "";
    if (count > 4 && strcmp(words[count - 2], "--tls") == 0) {
        context = tls_context(words[count - 1], strcmp(what, "server") == 0);
        count -= 2;
    }
    if (strcmp(what, "server") == 0 && count == 3) {
        run_server(words[2], context);
        return 0;
    }
    if (count < 4) {
        fprintf(stderr, "usage: see the beginning of load.c\n");
        return 2;
    }
    struct sockaddr_in address = address_of(words[2]);
    if (strcmp(what, "bulk") == 0 && count == 6) {
        bool up = strcmp(words[3], "up") == 0;
        struct moved moved = move(&address, up, atoi(words[4]), atof(words[5]), context);
        printf("{\"rate\": %.2f, \"bytes\": %llu}\n", moved.megabytes_a_second, (unsigned long long)moved.bytes);
    } else if (strcmp(what, "ping") == 0 && count == 4) {
        run_ping(&address, atof(words[3]), context);
    } else if (strcmp(what, "connect") == 0 && count == 5) {
        run_connect(&address, atoi(words[3]), atof(words[4]), context);
    } else if (strcmp(what, "idle") == 0 && count == 4) {
        run_idle(&address, atoi(words[3]));
    } else if (strcmp(what, "stalled") == 0 && count == 5) {
        run_stalled(&address, atoi(words[3]), atof(words[4]));
    } else if (strcmp(what, "delay") == 0 && count == 4) {
        struct sockaddr_in target = address_of(words[3]);
        run_delay(words[2], &target);
    } else {
        fprintf(stderr, "usage: see the beginning of load.c\n");
        return 2;
    }
    return 0;
}
