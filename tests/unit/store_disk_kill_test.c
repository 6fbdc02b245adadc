/* Random load in a process that is killed (SIGKILL) at a random moment, again and again over one directory. After each kill
 * the tier is opened and every byte of everything in it compared. DISK_KILL_ROUNDS says how many times, DISK_KILL_SEED which. */
#include "store_disk_fixture.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { NAMES = 300 };

/* Survives the child: what it had offered, and what it knew to be written. */
struct witness {
    atomic_uint version;         /* the last one given to any offer */
    atomic_uint offered[NAMES];  /* highest version offered */
    atomic_uint floor[NAMES];    /* versions below are dropped or replaced, and that is written */
    atomic_uint sizes[NAMES][8]; /* of the last versions, by version % 8 */
    atomic_uint at[NAMES][8];
    atomic_ulong puts, drops, checkpoints;
};

static struct witness *witness;

static uint64_t draw(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static struct disk *open_small(const char *path)
{
    struct disk_options options = options_for(path);
    static const uint8_t key[32] = "a key that is thirty-two bytes..";

    options.size = 12 * MIB;
    options.checkpoint_ms = 15;
    options.key = getenv("DISK_KILL_ENCRYPTED") ? key : NULL;
    return open_with(&options);
}

static void name_of(unsigned n, char name[16])
{
    (void)snprintf(name, 16, "name%u", n);
}

static void child_put(struct disk *disk, unsigned n, uint64_t *seed)
{
    unsigned version = atomic_fetch_add(&witness->version, 1) + 1;
    size_t size = draw(seed) % 20 == 0 ? draw(seed) % 600000 : draw(seed) % 9000;
    char name[16];

    name_of(n, name);
    atomic_store(&witness->at[n][version % 8], 0);
    atomic_store(&witness->sizes[n][version % 8], (unsigned)size);
    atomic_store(&witness->at[n][version % 8], version);
    atomic_store(&witness->offered[n], version);
    put(disk, name, version, size);
    atomic_fetch_add(&witness->puts, 1);
}

/* Everything before is written: older versions must never be seen again. */
static void child_settle(struct disk *disk, const unsigned *floors)
{
    disk_settle(disk);
    if (!stats_of(disk).on)
        _exit(3);
    if (stats_of(disk).refused_full)
        _exit(4);
    for (unsigned n = 0; n < NAMES; n++)
        atomic_store(&witness->floor[n], floors[n]);
}

static void child_main(const char *path, uint64_t seed)
{
    unsigned floors[NAMES];
    struct disk *disk;
    char name[16];

    if (workers_new(&pool, 1) < 0)
        _exit(2);
    disk = open_small(path);
    for (unsigned n = 0; n < NAMES; n++)
        floors[n] = atomic_load(&witness->floor[n]);
    for (;;) {
        unsigned n = (unsigned)draw(&seed) % NAMES, what = (unsigned)draw(&seed) % 20;

        if (what < 14) {
            child_put(disk, n, &seed);
            floors[n] = atomic_load(&witness->offered[n]);
        } else if (what < 17) {
            name_of(n, name);
            disk_drop(disk, at_named(name));
            floors[n] = atomic_load(&witness->offered[n]) + 1;
            atomic_fetch_add(&witness->drops, 1);
        } else if (what < 19) {
            struct object *object;

            name_of(n, name);
            object = get(disk, name);
            object_unref(object);
        } else {
            child_settle(disk, floors);
        }
    }
}

/* ---- afterwards ---- */

static void verify_object(struct disk *disk, struct object *object, unsigned n, bool whole_files)
{
    unsigned version = (unsigned)object->times.response_ms;
    uint64_t len = atomic_load(&object->body_len);
    char name[16];

    name_of(n, name);
    check_head(object, name, version);
    assert_true(version > 0 && version <= atomic_load(&witness->version));
    if (atomic_load(&witness->at[n][version % 8]) == version)
        assert_int_equal(len, atomic_load(&witness->sizes[n][version % 8]));
    if (whole_files && version < atomic_load(&witness->floor[n]))
        fail_msg("%s: version %u although below %u is gone", name, version, atomic_load(&witness->floor[n]));
    if (object->external) {
        struct streaming s = { .object = object };

        ssize_t r = stream_from(&s, disk, name, version, 0, len);

        assert_true(r > 0 || (r == -EIO && !whole_files));
    } else {
        check_body(object, name, version, (size_t)len);
    }
}

/* Returns how many are there. */
static unsigned verify(const char *path, bool whole_files)
{
    struct disk *disk = open_small(path);
    unsigned there = 0;
    char name[16];

    assert_true(stats_of(disk).on);
    for (unsigned n = 0; n < NAMES; n++) {
        struct object *object;

        name_of(n, name);
        object = get(disk, name);
        if (!object)
            continue;
        there++;
        verify_object(disk, object, n, whole_files);
        object_unref(object);
    }
    if (whole_files)
        assert_int_equal(stats_of(disk).corrupt, 0);
    disk_close(disk);
    assert_true(folder_size(path) <= 12 * MIB);
    return there;
}

/* As if power had failed: some pages of the youngest segment never reached the disk. */
static void lose_pages(const char *path, uint64_t *seed)
{
    static const char zeros[4096];
    int fd = open(last_segment(path), O_RDWR);

    for (unsigned i = 0; i < 4; i++)
        (void)!pwrite(fd, zeros, sizeof(zeros), (off_t)(1 + draw(seed) % 255) * 4096);
    close(fd);
}

static void killed_again_and_again(void **state)
{
    /* Whatever moment the process dies at: what is found is a version that was offered, whole, and none that was known to be gone. */
    const char *rounds_text = getenv("DISK_KILL_ROUNDS"), *seed_text = getenv("DISK_KILL_SEED");
    unsigned rounds = rounds_text ? (unsigned)strtoul(rounds_text, NULL, 10) : 20, there = 0;
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL);

    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    witness = mmap(NULL, sizeof(*witness), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(witness != MAP_FAILED);
    for (unsigned round = 0; round < rounds; round++) {
        uint64_t lifetime = 5 + draw(&seed) % 120, child_seed = draw(&seed);
        struct timespec wait = { .tv_nsec = (long)lifetime * 1000000 };
        pid_t child = fork();
        int status;

        assert_true(child >= 0);
        if (child == 0)
            child_main(sub("a"), child_seed);
        nanosleep(&wait, NULL); /* the moment of death, not an order of events */
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(workers_new(&pool, 1), 0);
        if (round % 4 == 3 && stat(sub("a"), &(struct stat){ 0 }) == 0) {
            copy_folder(sub("a"), sub("powerless"));
            lose_pages(sub("powerless"), &seed);
            (void)verify(sub("powerless"), false);
            remove_folder(sub("powerless"));
        }
        there += verify(sub("a"), true);
        workers_free(pool);
    }
    print_message("%u rounds: %lu puts, %lu drops, %u found\n", rounds, atomic_load(&witness->puts),
                  atomic_load(&witness->drops), there);
    remove_folder(sub("a"));
    munmap(witness, sizeof(*witness));
}

/* No threads here: they would not live on in the child. */
static int make_home(void **state)
{
    (void)state;
    (void)snprintf(home, sizeof(home), "/tmp/disk-test-XXXXXX");
    return mkdtemp(home) ? 0 : -1;
}

static int remove_home(void **state)
{
    (void)state;
    remove_folder(home);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_again_and_again, make_home, remove_home),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
