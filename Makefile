# Doorstep: build, run, test, measure, install. docs/building.md explains every target and variable.
#
#   make                    build/doorstep (release, gcc)
#   make run                install what is missing, build, start the node before a demo origin
#   make check              install what is missing, build every variant, run every test
#   make BUILD=asan         the same program in build/asan/ (also: debug, clang, tsan)
#   make unit [T=name]      unit tests of one variant (T: only tests/unit/*name*_test.c)
#   make fuzz TARGET=x SECONDS=60,  make bench [QUICK=1],  make soak,  make tidy,  make install DESTDIR= PREFIX=

VERSION := 0.1.0
BUILD   ?= release
O       ?= build
PREFIX  ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
SECONDS ?= 60
Q       ?= @

ifeq ($(filter $(BUILD),release debug clang asan tsan),)
  $(error BUILD=$(BUILD) is none of release, debug, clang, asan, tsan)
endif

# One folder per variant, so that none of them ever links another's objects.
OUT := $(if $(filter release,$(BUILD)),$(O),$(O)/$(BUILD))

ifeq ($(origin CC),default)
  CC := $(if $(filter clang asan tsan,$(BUILD)),clang,gcc)
endif
is_clang := $(findstring clang,$(shell $(CC) --version 2>/dev/null | head -1))

# Warnings are errors where people develop (a git checkout), not in release tarballs.
WERROR ?= $(if $(wildcard .git),1,0)

warnings := -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef \
            -Wformat=2 -Wcast-qual -Wpointer-arith -Wimplicit-fallthrough -Wnull-dereference
warnings += $(if $(is_clang),,-Wduplicated-cond -Wlogical-op)
warnings += $(if $(filter 1,$(WERROR)),-Werror)

harden := -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection
harden += $(if $(filter x86_64 i686,$(shell uname -m)),-fcf-protection=full)
harden += $(if $(is_clang),,-ftrivial-auto-var-init=zero)

alloc := -ljemalloc
ifeq ($(BUILD),asan)
  # fuzzer-no-link: the fuzz targets share these objects instead of compiling the tree once more.
  mode  := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all $(if $(is_clang),-fsanitize=fuzzer-no-link)
  alloc :=
else ifeq ($(BUILD),tsan)
  mode  := -O1 -fsanitize=thread
  alloc :=
else ifeq ($(BUILD),debug)
  mode  := -Og $(if $(is_clang),,-ftrivial-auto-var-init=pattern)
else
  mode  := -O2 $(harden)
endif

cflags  := -std=gnu17 -g -fno-omit-frame-pointer -fPIE -pthread $(mode) $(warnings) $(CFLAGS)
pq_headers := $(or $(shell pg_config --includedir 2>/dev/null),/usr/include/postgresql)
cppflags := -Isrc -I$(pq_headers) -D_GNU_SOURCE -DDOORSTEP_VERSION='"$(VERSION)"' $(CPPFLAGS)
ldflags := -pie -pthread $(mode) -Wl,-z,relro,-z,now,-z,noexecstack $(LDFLAGS)
libs    := -lurcu-qsbr -lurcu-cds -lurcu-common $(alloc) -lcares -lssl -lcrypto -lyaml -lsqlite3 -lpq -lpthread -lm

# SKIP="src/a/b.c" leaves out files that do not compile yet.
sources  := $(filter-out src/main/main.c $(SKIP),$(sort $(shell find src -name '*.c')))
objects  := $(sources:%.c=$(OUT)/obj/%.o)
units    := $(sort $(wildcard tests/unit/*_test.c))
fuzzers  := $(sort $(wildcard fuzz/*.c))
benches  := $(sort $(wildcard bench/*.c))
programs := $(units:tests/unit/%.c=$(OUT)/tests/%)
library  := $(OUT)/libdoorstep.a

# Bench programs that stand alone: they must not profit from, or be charged for, our library.
bench_alone := bare_responder origin malloc_count ai_provider ai_ask
bench_linked := $(filter-out $(bench_alone),$(benches:bench/%.c=%))

.PHONY: all lib run check unit units fuzzers fuzz benches bench soak tidy format install uninstall clean
.DELETE_ON_ERROR:
.SECONDARY:

all: $(OUT)/doorstep
lib: $(library)

# The first `make` on a bare machine has no compiler yet: install what the build needs, then start over.
ifeq ($(filter clean run check format,$(MAKECMDGOALS)),)
ifeq ($(DOORSTEP_DEPS),)
  ifneq ($(shell tools/install-deps --missing $(if $(filter release debug,$(BUILD)),build,check)),)
    $(shell tools/install-deps $(if $(filter release debug,$(BUILD)),build,check) >&2)
  endif
endif
endif

$(OUT)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(cppflags) $(cflags) -MMD -MP -c $< -o $@

# Built from nothing each time: an archive that is only updated keeps objects of deleted sources. Moved into place, like the
# program: a build beside running tests must not take it away under them.
$(library): $(objects)
	@echo "  AR    $@"
	$(Q)rm -f $@.$$$$ && $(AR) rcs $@.$$$$ $(objects) && mv -f $@.$$$$ $@

$(OUT)/doorstep: $(OUT)/obj/src/main/main.o $(library)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ldflags) $^ $(libs) -o $@.$$$$ && mv -f $@.$$$$ $@

$(OUT)/tests/%: $(OUT)/obj/tests/unit/%.o $(library)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ldflags) $^ -lcmocka $(libs) -o $@

$(OUT)/fuzz/%: $(OUT)/obj/fuzz/%.o $(library)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ldflags) -fsanitize=fuzzer $^ $(libs) -o $@

$(OUT)/bench/malloc_count.so: bench/malloc_count.c Makefile
	@mkdir -p $(@D)
	@echo "  CC    $@"
	$(Q)$(CC) $(cppflags) -std=gnu17 -O2 -g $(warnings) -fPIC -shared $< -ldl -o $@

$(addprefix $(OUT)/bench/,$(filter-out malloc_count,$(bench_alone))): $(OUT)/bench/%: $(OUT)/obj/bench/%.o
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ldflags) $^ -lpthread -o $@

$(addprefix $(OUT)/bench/,$(bench_linked)): $(OUT)/bench/%: $(OUT)/obj/bench/%.o $(library)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(ldflags) $^ $(libs) -o $@

units: $(programs)
fuzzers: $(fuzzers:fuzz/%.c=$(OUT)/fuzz/%)
benches: $(addprefix $(OUT)/bench/,$(bench_linked)) \
         $(patsubst bench/%.c,$(OUT)/bench/%,$(filter-out bench/malloc_count.c,$(wildcard $(bench_alone:%=bench/%.c)))) \
         $(if $(wildcard bench/malloc_count.c),$(OUT)/bench/malloc_count.so)

# T=http1 runs only the tests whose file name has http1 in it. A test that does not compile fails alone.
wanted := $(if $(T),$(foreach p,$(programs),$(if $(findstring $(T),$(notdir $(p))),$(p))),$(programs))
unit:
	$(Q)$(MAKE) -s -k DOORSTEP_DEPS=1 $(wanted) || true
	$(Q)tools/run-unit $(wanted)

run:
	$(Q)examples/demo/run

check:
	$(Q)tools/check

fuzz:
	$(Q)tools/fuzz "$(TARGET)" "$(SECONDS)"

soak:
	$(Q)tools/soak "$(SECONDS)"

bench:
	$(Q)QUICK=$(QUICK) bench/run.sh

tidy:
	$(Q)clang-tidy-14 --quiet $(if $(T),$(foreach s,$(sources),$(if $(findstring $(T),$(s)),$(s))),$(sources) src/main/main.c) -- $(cppflags) -std=gnu17

format:
	$(Q)clang-format-14 -i $$(git ls-files '*.c' '*.h')

install: $(OUT)/doorstep
	install -D -m 755 $(OUT)/doorstep $(DESTDIR)$(PREFIX)/bin/doorstep
	install -D -m 644 packaging/site.yaml $(DESTDIR)$(SYSCONFDIR)/doorstep/site.yaml.example
	test -e $(DESTDIR)$(SYSCONFDIR)/doorstep/site.yaml || \
	    install -m 644 packaging/site.yaml $(DESTDIR)$(SYSCONFDIR)/doorstep/site.yaml
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|@BINDIR@|$(PREFIX)/bin|; s|@SYSCONFDIR@|$(SYSCONFDIR)|' packaging/doorstep.service \
	    > $(DESTDIR)$(UNITDIR)/doorstep.service
	chmod 644 $(DESTDIR)$(UNITDIR)/doorstep.service

# The configuration stays: it belongs to whoever edited it.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/doorstep $(DESTDIR)$(UNITDIR)/doorstep.service

clean:
	rm -rf $(O)

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
