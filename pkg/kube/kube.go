// Package kube makes clients for the API server; nothing else.
package kube

import (
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Config finds the API server: the kubeconfig file if one is named, else the
// cluster that this pod runs in, else $KUBECONFIG, else ~/.kube/config.
func Config(kubeconfig, userAgent string) (*rest.Config, error) { panic("stub") }

// Client returns a client for reading and writing with our own limits:
// protobuf, no client-side rate limit, no hidden retries of writes, and a
// timeout per call.
func Client(c *rest.Config) (kubernetes.Interface, error) { panic("stub") }

// WatchClient returns a client for lists and watches, on a connection of its
// own so that a burst of writes cannot delay what we see.
func WatchClient(c *rest.Config) (kubernetes.Interface, error) { panic("stub") }
