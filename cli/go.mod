module github.com/selfheal/selfheal/cli

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/nats-io/nats-server/v2 v2.15.2
	github.com/selfheal/selfheal/pkg v0.0.0
	github.com/selfheal/selfheal/services/actuator v0.0.0
	github.com/selfheal/selfheal/services/analyzer v0.0.0
	github.com/selfheal/selfheal/services/notifier v0.0.0
	github.com/selfheal/selfheal/services/watcher v0.0.0
	github.com/spf13/cobra v1.10.2
	golang.org/x/sync v0.24.0
	golang.org/x/term v0.47.0
	k8s.io/api v0.37.2
	k8s.io/apimachinery v0.37.2
	k8s.io/client-go v0.37.2
)

replace (
	github.com/selfheal/selfheal/pkg => ../pkg
	github.com/selfheal/selfheal/services/actuator => ../services/actuator
	github.com/selfheal/selfheal/services/analyzer => ../services/analyzer
	github.com/selfheal/selfheal/services/notifier => ../services/notifier
	github.com/selfheal/selfheal/services/watcher => ../services/watcher
)
