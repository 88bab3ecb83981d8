SHELL := /bin/sh
.DEFAULT_GOAL := help

# The function as it is deployed: static, without the old RPC mode, stripped.
BUILD = go build -tags lambda.norpc -trimpath -ldflags '-s -w'

.PHONY: run
run: ## run the function on localhost:3000 (PORT), with stand-ins for AWS and Incode
	@CGO_ENABLED=0 $(BUILD) -o .build/bootstrap ./functions/start
	@go build -o .build/local ./internal/local
	@.build/local .build/bootstrap

.PHONY: test
test: ## run all tests, those of the compiled function among them
	go test -race -timeout 100s ./...

# sam build calls this one, and says where to put the file.
.PHONY: build-StartFunction
build-StartFunction:
	CGO_ENABLED=0 GOOS=linux GOARCH=$(or $(GOARCH),arm64) $(BUILD) -o '$(ARTIFACTS_DIR)/bootstrap' ./functions/start

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
