module github.com/selfheal/selfheal/cli

go 1.26.0

require (
	github.com/selfheal/selfheal/pkg v0.0.0
	github.com/selfheal/selfheal/services/actuator v0.0.0
	github.com/selfheal/selfheal/services/analyzer v0.0.0
	github.com/selfheal/selfheal/services/notifier v0.0.0
	github.com/selfheal/selfheal/services/watcher v0.0.0
)

replace (
	github.com/selfheal/selfheal/pkg => ../pkg
	github.com/selfheal/selfheal/services/actuator => ../services/actuator
	github.com/selfheal/selfheal/services/analyzer => ../services/analyzer
	github.com/selfheal/selfheal/services/notifier => ../services/notifier
	github.com/selfheal/selfheal/services/watcher => ../services/watcher
)
