module github.com/selfheal/selfheal/services/notifier

go 1.26.0

require github.com/selfheal/selfheal/pkg v0.0.0

replace github.com/selfheal/selfheal/pkg => ../../pkg
