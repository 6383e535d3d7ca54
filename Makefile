# The module is built out of the tree for the nginx that is installed
# (Debian: packages nginx and nginx-dev).  "make help" lists the targets.

SHELL    := /bin/bash
BUILD    ?= $(CURDIR)/build
NGX_SRC  ?= /usr/share/nginx/src
CCOPT    ?= -O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2
LDOPT    ?= -Wl,-z,relro -Wl,-z,now
JOBS     ?= $(shell nproc)

override BUILD := $(abspath $(BUILD))
MODULE   := $(BUILD)/ngx_http_hybrid_module.so
OBJS     := $(BUILD)/objs
SOURCES  := $(sort $(wildcard ngx_hybrid_module/*/*.[ch]))
PAGE     := $(BUILD)/page/ngx_http_hybrid_page_text.c

# the charts of the page: npm's package, or a copy of it in UPLOT
ifeq ($(UPLOT),)
    UPLOT_DIR := $(BUILD)/uplot/node_modules/uplot
    UPLOT_DEP := $(BUILD)/uplot/installed
else
    UPLOT_DIR := $(UPLOT)
    UPLOT_DEP := $(wildcard $(UPLOT)/dist/*.min.*)
endif

export BUILD NGX_SRC

.PHONY: build help page run test unit valgrind check sanitize bench lab \
        model install package package-test docker-test vm-test \
        clean FORCE
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory


build: $(MODULE)  ## build/ngx_http_hybrid_module.so (the default)

$(MODULE): $(OBJS)/Makefile $(SOURCES) $(PAGE)
	@echo "building $(notdir $@)"
	@cd $(NGX_SRC) \
	&& flock $(OBJS) $(MAKE) -s -j$(JOBS) -f $(OBJS)/Makefile modules
	@cp --remove-destination $(OBJS)/$(notdir $@) $@

$(OBJS)/Makefile: config $(OBJS)/inputs | $(PAGE)
	@echo "configuring for the nginx in $(NGX_SRC)"
	@cd $(NGX_SRC) && . ./conf_flags \
	&& HYBRID_PAGE=$(PAGE) \
	flock $(OBJS) bash ./configure "$${NGX_CONF_FLAGS[@]}" --builddir=$(OBJS) \
	    --add-dynamic-module=$(CURDIR) \
	    --with-cc-opt='$(CCOPT)' --with-ld-opt='$(LDOPT)' \
	    > $(OBJS)/configure.log 2>&1 \
	|| { tail -n 15 $(OBJS)/configure.log; exit 1; }

# what configure depends on besides config: nginx, options, list of files
$(OBJS)/inputs: FORCE
	@test -f $(NGX_SRC)/conf_flags \
	|| { echo "no nginx to build for: run tools/deps build"; exit 1; }
	@mkdir -p $(OBJS)
	@new=$@.$$$$; \
	cat $(NGX_SRC)/conf_flags $(NGX_SRC)/src/core/nginx.h | cksum > $$new; \
	echo '$(CURDIR) $(CCOPT) $(LDOPT) $(SOURCES)' >> $$new; \
	cmp -s $$new $@ && rm $$new || mv $$new $@

page: $(PAGE)  ## the status page alone, as a source and as HTML

$(PAGE): tools/page $(wildcard page/*) $(UPLOT_DEP)
	@mkdir -p $(@D)
	@tools/page $(UPLOT_DIR) $@

$(BUILD)/uplot/installed: page/package-lock.json
	@tools/deps page
	@touch $@


run:  ## a gateway with demo backends on this machine
	@tools/deps run
	@$(MAKE) build
	@conf/demo/run

test:  ## all tests, or those in T: make test T=t/010-token.t
	@tools/deps test
	@$(MAKE) build
	@t/lib/run $(T)

unit:  ## the unit tests only
	@$(MAKE) build
	@t/lib/run $(or $(T),$(filter-out %_bench.c,$(wildcard t/unit/*.c)))

valgrind:  ## the tests in nginx under valgrind, or those in T
	@tools/deps valgrind
	@$(MAKE) build
	@VALGRIND=1 t/lib/run $(or $(T),$(wildcard t/*.t))

check:  ## style and static analysis
	@tools/deps check
	@$(MAKE) build
	@tools/check

sanitize:  ## all tests under ASan and UBSan, or those in T
	@tools/deps sanitize
	@tools/sanitize $(T)

bench:  ## benchmarks
	@tools/deps bench
	@$(MAKE) build
	@t/bench/run
	@t/bench/identity
	@t/bench/clients
	@t/bench/timing
	@t/bench/streams
	@t/bench/filter
	@t/bench/fairness

lab:  ## paths and machines that fail, in network namespaces (root), or T
	@tools/deps lab
	@$(MAKE) build
	@t/lab/run $(T)

model:  ## the limits against a model: random schedules of faults, N of them
	@tools/deps test
	@$(MAKE) build
	@t/model $(or $(N),20) $(SEED)

install: build  ## the module, its include files and tools (DESTDIR)
	install -D -m 644 $(MODULE) \
	    $(DESTDIR)/usr/lib/nginx/modules/$(notdir $(MODULE))
	install -D -m 644 conf/hybrid_proxy.conf \
	    $(DESTDIR)/etc/nginx/hybrid_proxy.conf
	install -D -m 644 conf/hybrid_log.conf \
	    $(DESTDIR)/etc/nginx/hybrid_log.conf
	install -D -m 755 -t $(DESTDIR)/usr/bin tools/hybrid-apply \
	    tools/hybrid-ctl tools/hybrid-token
	install -D -m 644 -t $(DESTDIR)/usr/share/man/man1 man/*.1

package:  ## a Debian package for this machine's nginx, in build/package
	@tools/deps package
	@$(MAKE) page
	@UPLOT=$(UPLOT_DIR) tools/package

package-test:  ## the package in bare systems (root), or in the suites of S
	@tools/deps package-test
	@$(MAKE) page
	@UPLOT=$(UPLOT_DIR) t/deb/run $(S)

docker-test:  ## the image and the compose stack (root, where no daemon runs)
	@tools/deps docker-test
	@UPLOT=$(UPLOT_DIR) t/docker/run

vm-test:  ## the VMs of conf/gcp and conf/azure under a real systemd (root)
	@tools/deps vm-test
	@$(MAKE) page
	@UPLOT=$(UPLOT_DIR) t/vm/gcp
	@UPLOT=$(UPLOT_DIR) t/vm/azure

clean:  ## removes build/
	rm -rf $(BUILD)

help:
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' Makefile | expand -t 14
