SHELL := /bin/sh
.DEFAULT_GOAL := help

# The function as it is deployed: static, stripped, without the old RPC mode, and without HTTP/2, which it must not use
# with Incode. The commit is not stamped in: you fill in samconfig.toml, and then the same code would build another binary.
BUILD = go build -tags lambda.norpc,nethttpomithttp2 -trimpath -buildvcs=false -ldflags '-s -w'

ifeq ($(OS),Windows_NT)
$(error On Windows, run make in WSL: https://learn.microsoft.com/windows/wsl/install)
endif

# go list fails when Go is too old for go.mod and cannot download a newer Go.
need-go = @command -v go >/dev/null || { echo 'Go is missing: install Go 1.26 or later from https://go.dev/dl/' >&2; exit 1; }; \
	go list -m >/dev/null || { echo 'Go is too old: install Go 1.26 or later from https://go.dev/dl/' >&2; exit 1; }; \
	go mod download || { echo 'Go cannot download its modules: connect to the internet, or set GOPROXY to your proxy' >&2; exit 1; }
need-cc = @cc=$$(go env CC); command -v "$${cc%% *}" >/dev/null || { \
	echo 'A C compiler is missing, which the race detector needs: apt-get install gcc libc6-dev, or xcode-select --install' >&2; exit 1; }

# run checks the settings, and then compiles the function: at the start and after each change.
.PHONY: run
run: ## run the function on localhost:3000 (PORT) with a page to try it; CORS: origins of pages, HOSTS: names of this machine
	@echo 'Compiling (the first time, Go also downloads its modules) ...'
	$(need-go)
	@go build -o .build/run ./internal/tooling/run
	@.build/run . .build/bootstrap env CGO_ENABLED=0 $(BUILD) -o .build/bootstrap ./functions/start

# Four tests at a time, because those of the compiled function wait more than they work.
.PHONY: test
test: ## run all tests, also those of the compiled function, with a sample of the fault matrix
	$(need-go)
	$(need-cc)
	go test -race -parallel 4 -timeout 30m ./...

.PHONY: test-all
test-all: ## run all tests with all rows of the fault matrix
	$(need-go)
	$(need-cc)
	go test -race -timeout 30m ./internal/...
	go test -race -timeout 30m ./functions/start -args -all

SOAK_FLAGS ?= -calls 1000000

.PHONY: soak
soak: ## call the function a million times, with faults, and check for leaks (Linux; SOAK_FLAGS='-calls 100000')
	go test -race=false -timeout 0 -v -run TestAtMostOnce ./functions/start -args $(SOAK_FLAGS)

FUZZTIME ?= 30s

# When the time is over, go test may report its own deadline as a failure: go.dev/issue/75804, fixed in Go 1.27.
.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s)
	@mkdir -p .build
	@grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' functions internal | sort | \
	while IFS=: read -r file target; do \
		target=$${target#func }; echo "$${file%/*} $$target"; \
		{ go test -timeout 0 -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $(FUZZ_FLAGS) "./$${file%/*}" || \
			echo FAILED; } 2>&1 | tee .build/fuzz.log; \
		! grep -q '^FAILED$$' .build/fuzz.log || grep -q '^    context deadline exceeded$$' .build/fuzz.log || exit 1; \
	done

.PHONY: contract
contract: ## check the OpenAPI document against the code, the template and the running function (needs Python 3 and npm)
	@internal/tooling/contract/check.sh

.PHONY: test-page
test-page: ## use the page of make run in headless Chromium (needs npm and Chromium)
	@internal/tooling/run/browser/check.sh

.PHONY: screenshot
screenshot: ## run make test-page, and write the screenshot for the README
	@internal/tooling/run/browser/check.sh functions/start/docs/workbench.png

# With the default timeout of 3 times the duration of the tests, a busy machine reports slow tests as hanging ones.
GREMLINS = github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0 unleash --timeout-coefficient 10 --output-statuses lt

# It works in a copy without .build, because gremlins copies all files of the module for each package.
.PHONY: mutate
mutate: ## report how many small defects in the code the unit tests detect, by package
	@rm -rf .build/mutate && mkdir -p .build/mutate
	@git ls-files -co --exclude-standard | tar -cf - -T - | tar -xf - -C .build/mutate
	@cd .build/mutate && for package in $$(ls internal | grep -v '^tooling$$'); do \
		echo "== internal/$$package"; \
		go run $(GREMLINS) $(MUTATE_FLAGS) ./internal/$$package || exit 1; \
	done
	@echo 'Not measured: functions/start, because its tests run the compiled function as a process.'

BENCH = .build/bench

.PHONY: bench
bench: ## compare the speed of the function with other implementations (Linux; as root for CPU limits, with npm for Node.js)
	@mkdir -p $(BENCH)
	@CGO_ENABLED=0 $(BUILD) -o $(BENCH)/start ./functions/start
	@CGO_ENABLED=0 go build -tags lambda.norpc -ldflags '-s -w' -o $(BENCH)/ \
		./internal/tooling/bench/naive ./internal/tooling/bench/bare
	@CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(BUILD) -o $(BENCH)/start-arm64 ./functions/start
	@if command -v npm >/dev/null; then \
		cp -r internal/tooling/bench/node $(BENCH)/ && npm ci --silent --prefix $(BENCH)/node; \
	fi
	@go build -o $(BENCH)/bench ./internal/tooling/bench
	@$(BENCH)/bench $(BENCH_FLAGS)

SBOM = .build/sbom
CYCLONEDX = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

.PHONY: sbom
sbom: ## write a software bill of materials of the function for ARCH to .build/sbom/bom.json (CycloneDX)
	@$(MAKE) --no-print-directory build-StartFunction ARTIFACTS_DIR=$(SBOM)
	@go run $(CYCLONEDX) bin -json -std -short-purls -version "$$(git describe --always --dirty)" \
		-output $(SBOM)/bom.json $(SBOM)/bootstrap

.PHONY: test-deploy
test-deploy: ## deploy to an emulated AWS account on this machine (needs Python 3)
	@tools=$$(internal/tooling/deploy/install.sh emulator) && PYTHONDONTWRITEBYTECODE=1 \
		"$$tools/python" -m pytest -x -q -p no:cacheprovider --durations=5 internal/tooling/deploy/test_emulated.py

# Deployment. ENV is a section of samconfig.toml: default, staging or prod.

ENV ?= default
PORT ?= 3000
export CORS ?= http://localhost:8080
FLOW ?= 6245f1e0c8d4b2a39e7f1c05
BODY ?= {"configurationId":"$(FLOW)"}

# config reads one setting of ENV from samconfig.toml, parameters reads the parameters of the template.
section = awk '/^\[/ { on = index($$0, "[$(ENV).") == 1 } on' samconfig.toml
config = $(shell $(section) | sed -n 's/^$(1) *= *"\([A-Za-z0-9_./-]*\)".*/\1/p' | head -n 1)
parameters = awk -v env='$(ENV)' -f internal/tooling/deploy/overrides.awk
# SAM CLI keeps the deployed value of a parameter that it is not given, so a line commented out would change nothing.
# make deploy therefore gives the defaults, too.
defaults = awk '/^[A-Z]/ { on = $$1 == "Parameters:" } on && /^  [A-Z]/ { name = $$1; sub(/:/, "=", name) } \
	on && $$1 == "Default:" { gsub(/["\047]/, "", $$2); print name "\"" $$2 "\"" }'

architecture = $(shell $(parameters) samconfig.toml | sed -n 's/^Architecture=//p')

# SAM does not tell make for which processor to build, so both read the same line, or have the same default.
DEPLOYED_ARCH = $(or $(architecture),arm64)
HOST_ARCH = $(if $(filter arm64 aarch64,$(shell uname -m)),arm64,x86_64)
ARCH ?= $(DEPLOYED_ARCH)
BOOTSTRAP = .aws-sam/build/StartFunction/bootstrap

AWS = aws $(addprefix --region ,$(call config,region))
region = $(or $(call config,region),$${AWS_REGION:-$${AWS_DEFAULT_REGION:-$$(aws configure get region)}})
output = $(AWS) cloudformation describe-stacks --stack-name '$(call config,stack_name)' --output text --query "Stacks[0].Outputs[?OutputKey=='$(1)'].OutputValue"

AWS_CLI_2 = https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html

# pipx, since Debian and Homebrew forbid pip to install outside of a virtual environment.
need-sam = @command -v sam >/dev/null || { echo 'sam is missing: pipx install aws-sam-cli' >&2; exit 1; }
need-aws = @command -v aws >/dev/null || { echo 'aws is missing: pipx install awscli, or $(AWS_CLI_2)' >&2; exit 1; }
need-docker = @command -v docker >/dev/null || { echo 'docker is missing: install Docker Engine or Docker Desktop' >&2; exit 1; }; \
	docker info >/dev/null 2>&1 || { echo 'docker does not respond: start Docker Engine or Docker Desktop' >&2; exit 1; }

.PHONY: build
build: ## build the function with SAM (ARCH=arm64 or x86_64)
	$(need-sam)
	ARCH=$(ARCH) sam build --parameter-overrides Architecture=$(ARCH)

# sam build calls this one, and says where to put the file.
.PHONY: build-StartFunction
build-StartFunction:
	CGO_ENABLED=0 GOOS=linux GOARCH=$(if $(filter x86_64,$(ARCH)),amd64,$(ARCH)) $(BUILD) -o '$(ARTIFACTS_DIR)/bootstrap' ./functions/start

.PHONY: validate
validate: ## check template.yaml with SAM's linter
	$(need-sam)
	@AWS_DEFAULT_REGION=$${AWS_DEFAULT_REGION:-us-east-1} sam validate --lint

# Fake credentials, because sam local hands those of the shell to the function.
local: export AWS_ACCESS_KEY_ID := local
local: export AWS_SECRET_ACCESS_KEY := local
local: export AWS_SESSION_TOKEN := local
local: export AWS_REGION := us-east-1
IMAGE = public.ecr.aws/lambda/provided:al2023-rapid-$(HOST_ARCH)

.PHONY: local
local: ## serve the function in a container under sam local on localhost:3000 (PORT)
	$(need-docker)
	@$(MAKE) --no-print-directory build ARCH=$(HOST_ARCH)
	@mkdir -p .build && go build -o .build/run ./internal/tooling/run
	@.build/run standins -addr 0.0.0.0 & standins=$$!; trap "kill $$standins" EXIT; trap exit INT TERM; \
	docker image inspect $(IMAGE) >/dev/null 2>&1 && offline=--skip-pull-image; \
	sam local start-api --config-env local --port $(PORT) $$offline $(LOCAL_FLAGS) \
		--parameter-overrides Architecture=$(HOST_ARCH) AllowedConfigurationIds=from-env-vars CorsOrigins=$(CORS)

.PHONY: filled-in
filled-in:
	@$(parameters) check=1 template.yaml samconfig.toml

.PHONY: deploy
deploy: filled-in build ## deploy to ENV
	@go version -m $(BOOTSTRAP) | grep -q 'GOARCH=$(if $(filter x86_64,$(DEPLOYED_ARCH)),amd64,$(DEPLOYED_ARCH))$$' || \
		{ echo 'samconfig.toml deploys $(DEPLOYED_ARCH), the binary is for $(ARCH): put Architecture=$(ARCH) into parameter_overrides of $(ENV)' >&2; exit 1; }
	@set -f; sam deploy --config-env $(ENV) --parameter-overrides \
		$$($(defaults) template.yaml) $$($(parameters) samconfig.toml | sed 's/=\(.*\)/="\1"/')

BUCKET = $(or $(addprefix --s3-bucket ,$(call config,s3_bucket)),--resolve-s3)
PACKAGED = .aws-sam/packaged.yaml

# The checksum gives a changed template a new address, so that Terraform and CDK see the change. Only the address goes to
# standard output.
.PHONY: package
package: ## upload template and code to the bucket of make deploy, and print the template's address
	$(need-aws)
	@$(MAKE) --no-print-directory build >&2
	@sam package $(addprefix --region ,$(call config,region)) $(BUCKET) --s3-prefix '$(call config,s3_prefix)' \
		--output-template-file $(PACKAGED) >&2
	@code=$$(sed -n 's|^ *CodeUri: s3://||p' $(PACKAGED)) && \
	template=$${code%/*}/$$(cksum <$(PACKAGED) | cut -d ' ' -f 1).template && \
	$(AWS) s3 cp --only-show-errors $(PACKAGED) "s3://$$template" && echo "https://s3.$(region).amazonaws.com/$$template"

.PHONY: set-key
set-key: ## store Incode's API key, read from standard input, in the secret of ENV
	$(need-aws)
	@secret=$$($(call output,SecretArn)) && [ -n "$$secret" ] || exit 1; \
	if [ -t 0 ]; then printf 'API key (not shown): ' >&2; trap 'stty echo; echo >&2' EXIT; trap exit INT; stty -echo; fi; \
	IFS= read -r key; [ -n "$$key" ] || { echo 'no key on standard input' >&2; exit 1; }; \
	printf %s "$$key" | $(AWS) secretsmanager put-secret-value --secret-id "$$secret" --secret-string file:///dev/stdin \
		--output text --query "join(' ', ['stored as version', VersionId])" && \
	printf '%s\n' 'If this replaces a key, do not revoke the old one yet: Incode would abort the sessions that were started with it.' \
		'1. Wait twice IncodeApiKeyMaxAge: 10 minutes, unless you have changed it.' \
		'2. Check that all sessions start with this version. The command is in functions/start/docs/OPERATIONS.md.' \
		'3. Wait until the sessions that were started with the old key have ended. Then revoke the old key.'

# Secrets go to curl through a pipe, because every user of the machine can read the command line of a process.
.PHONY: call
call: ## start a session at ENV (FLOW=<configuration ID>; TOKEN=<access token>, or HEADER='Cookie: session=...')
	$(need-aws)
	@url=$$($(call output,Url)) && mode=$$($(call output,AuthMode)) || exit 1; \
	if [ "$$mode" != sigv4 ]; then \
		[ -n "$$TOKEN$$HEADER" ] || { echo "TOKEN is missing: export TOKEN=<access token>, or HEADER='Cookie: session=...'" >&2; exit 1; }; \
		auth=$$(printf %s "$${HEADER:-Authorization: Bearer $$TOKEN}" | sed 's/[\\"]/\\&/g; s/.*/header = "&"/'); \
	else \
		if [ -z "$$AWS_ACCESS_KEY_ID" ]; then \
			case $$(aws --version 2>&1) in aws-cli/1.*) \
				echo 'make call needs AWS CLI version 2, or the credentials in AWS_ACCESS_KEY_ID and so on: $(AWS_CLI_2)' >&2; exit 1;; \
			esac; \
			keys=$$($(AWS) configure export-credentials --format env) && eval "$$keys" || exit 1; \
		fi; \
		auth=$$(printf '%s\n' "aws-sigv4 = \"aws:amz:$(region):execute-api\"" "user = \"$$AWS_ACCESS_KEY_ID:$$AWS_SECRET_ACCESS_KEY\"" \
			$${AWS_SESSION_TOKEN:+"header = \"X-Amz-Security-Token: $$AWS_SESSION_TOKEN\""}); \
	fi; \
	printf '%s\n' "$$auth" | curl -sS --fail-with-body --config - -H 'Content-Type: application/json' -d '$(BODY)' "$$url" && echo

.PHONY: logs
logs: ## follow the function's log of ENV
	$(need-sam)
	@sam logs --config-env $(ENV) --stack-name '$(call config,stack_name)' --name StartFunction --tail

.PHONY: delete
delete: ## delete the stack of ENV; the secret that it made stays
	$(need-sam)
	@sam delete --config-env $(ENV) --stack-name '$(call config,stack_name)'

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
