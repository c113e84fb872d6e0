/* QEMU TCG plugin (user mode, one guest thread): how often each block of instructions ran, operator by operator.
 *
 * The guest says where it is by syscall 5000, which Linux does not know: (1) begin, (2, n) end and write OUT.n,
 * (3, address) from now on each execution of the block at that address begins a new section.
 * OUT.n holds a line `B <block> <address> <instruction words in hex>` for each block that ran, a line `S <section>`
 * before the blocks of a section, `<block> <executions>`, and `E` at its end. Arguments: out=PATH, and memory=1: a last
 * line `M <bytes loaded> <bytes stored>` of the emulator's own counting, which is slow.
 * The declarations are those that a plugin of interface version 1 (QEMU 6.0 to 8.x) sees; Debian ships no header.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
typedef uint32_t mem_info;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { OP_ADD_U64 = 0, CB_NO_REGS = 0, MEM_RW = 3 };
typedef void (*exec_cb)(unsigned, void *);
typedef void (*mem_cb)(unsigned, mem_info, uint64_t, void *);
typedef void (*trans_cb)(plugin_id, struct qemu_plugin_tb *);
typedef void (*call_cb)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, trans_cb);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, exec_cb, int, void *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, call_cb);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, mem_cb, int, int, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
unsigned qemu_plugin_mem_size_shift(mem_info);
bool qemu_plugin_mem_is_store(mem_info);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

typedef struct block {
    uint64_t address, runs, before, number;
    bool written;
    size_t count;
    struct block *next;
    uint32_t words[];
} block_t;

static block_t *blocks;
static uint64_t made, border, section, loaded, stored;
static const char *out = "counts";
static bool inside, with_memory;
static FILE *file;

static void write_section(void) {
    fprintf(file, "S %" PRIu64 "\n", section++);
    for (block_t *b = blocks; b; b = b->next) {
        if (b->runs == b->before) continue;
        if (!b->written) {
            fprintf(file, "B %" PRIu64 " %" PRIx64, b->number, b->address);
            for (size_t i = 0; i < b->count; i++) fprintf(file, " %08x", b->words[i]);
            fputc('\n', file);
            b->written = true;
        }
        fprintf(file, "%" PRIu64 " %" PRIu64 "\n", b->number, b->runs - b->before);
        b->before = b->runs;
    }
}

static void on_border(unsigned cpu, void *data) {
    (void)cpu, (void)data;
    if (inside) write_section();
}

static void on_memory(unsigned cpu, mem_info info, uint64_t address, void *data) {
    (void)cpu, (void)address, (void)data;
    if (!inside) return;
    uint64_t bytes = UINT64_C(1) << qemu_plugin_mem_size_shift(info);
    if (qemu_plugin_mem_is_store(info)) stored += bytes; else loaded += bytes;
}

static void on_translate(plugin_id id, struct qemu_plugin_tb *tb) {
    (void)id;
    size_t n = qemu_plugin_tb_n_insns(tb);
    block_t *b = calloc(1, sizeof *b + n * sizeof b->words[0]);
    if (!b) abort();
    b->address = qemu_plugin_tb_vaddr(tb);
    b->count = n;
    b->number = made++;
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        memcpy(&b->words[i], qemu_plugin_insn_data(insn), sizeof b->words[i]);
        if (with_memory) qemu_plugin_register_vcpu_mem_cb(insn, on_memory, CB_NO_REGS, MEM_RW, NULL);
    }
    b->next = blocks;
    blocks = b;
    if (b->address == border) qemu_plugin_register_vcpu_tb_exec_cb(tb, on_border, CB_NO_REGS, NULL);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, OP_ADD_U64, &b->runs, 1);
}

static void begin(void) {
    inside = true;
    section = loaded = stored = 0;
    for (block_t *b = blocks; b; b = b->next) {
        b->before = b->runs;
        b->written = false;
    }
}

static void end(uint64_t number) {
    write_section();
    if (with_memory) fprintf(file, "M %" PRIu64 " %" PRIu64 "\n", loaded, stored);
    fprintf(file, "E\n");
    fclose(file);
    inside = false;
    (void)number;
}

static void on_syscall(plugin_id id, unsigned cpu, int64_t number, uint64_t what, uint64_t value, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)cpu, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != 5000) return;
    if (what == 3) border = value;
    if (what == 1 && !inside) {
        char name[4096];
        snprintf(name, sizeof name, "%s.%" PRIu64, out, value);
        file = fopen(name, "w");
        if (!file) { perror(name); exit(1); }
        begin();
    }
    if (what == 2 && inside) end(value);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4)) out = strdup(argv[i] + 4);
        else if (!strcmp(argv[i], "memory=1")) with_memory = true;
        else { fprintf(stderr, "count: unknown argument %s\n", argv[i]); return -1; }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
