package clustercache

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/tierwall/tierwall/policy/compile"
)

// ClientFor is a client of the API server for the objects of one kind of Scheme. The clients of client-go and of
// controller-runtime know all kinds of Kubernetes, which a process that uses them has in memory.
func ClientFor(config *rest.Config, example runtime.Object) (rest.Interface, error) {
	scheme := Scheme()
	kinds, _, err := scheme.ObjectKinds(example)
	if err != nil {
		return nil, fmt.Errorf("find the kind of %T: %w", example, err)
	}
	version := kinds[0].GroupVersion()
	config = rest.CopyConfig(config)
	config.GroupVersion, config.NegotiatedSerializer = &version, serializer.NewCodecFactory(scheme).WithoutConversion()
	config.APIPath = "/apis"
	if version.Group == "" {
		config.APIPath = "/api"
	}
	if version == corev1.SchemeGroupVersion || version == networkingv1.SchemeGroupVersion {
		config.ContentType = runtime.ContentTypeProtobuf // in which there are no custom resources
		config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	}
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make an API client for %s: %w", kinds[0].Kind, err)
	}
	return client, nil
}

// ReadNode reads a node, without a Watcher.
func ReadNode(ctx context.Context, config *rest.Config, name string) (*compile.Node, error) {
	var n corev1.Node
	client, err := ClientFor(config, &n)
	if err != nil {
		return nil, err
	}
	if err := client.Get().Resource("nodes").Name(name).Do(ctx).Into(&n); err != nil {
		return nil, fmt.Errorf("read node %s: %w", name, err)
	}
	return Node(&n), nil
}
