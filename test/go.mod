module github.com/selfheal/selfheal/test

go 1.26.0

require (
	github.com/selfheal/selfheal/pkg v0.0.0
	github.com/selfheal/selfheal/services/actuator v0.0.0
	github.com/selfheal/selfheal/services/analyzer v0.0.0
	github.com/selfheal/selfheal/services/notifier v0.0.0
	github.com/selfheal/selfheal/services/watcher v0.0.0
)

require (
	github.com/antithesishq/antithesis-sdk-go v0.8.0-default-no-op // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/nats-io/jwt/v2 v2.8.2 // indirect
	github.com/nats-io/nats-server/v2 v2.15.2 // indirect
	github.com/nats-io/nkeys v0.4.16 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/time v0.16.0 // indirect
	k8s.io/api v0.37.2 // indirect
	k8s.io/apimachinery v0.37.2 // indirect
	k8s.io/client-go v0.37.2 // indirect
)

replace (
	github.com/selfheal/selfheal/pkg => ../pkg
	github.com/selfheal/selfheal/services/actuator => ../services/actuator
	github.com/selfheal/selfheal/services/analyzer => ../services/analyzer
	github.com/selfheal/selfheal/services/notifier => ../services/notifier
	github.com/selfheal/selfheal/services/watcher => ../services/watcher
)
