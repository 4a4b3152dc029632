package main

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/tierwall/tierwall/clustercache"
	"github.com/tierwall/tierwall/enforcer/pathcheck"
)

// recordEvent shows something as an Event of the Node.
type recordEvent func(kind, reason, message string)

// recordRepair records a repair of the rules.
func (r recordEvent) recordRepair() {
	r(corev1.EventTypeWarning, "RulesRepaired", "Somebody changed the packet filter's rules of tierwall on this node; they were mended")
}

// recordPath records that a path is outside of the rules or limited, or no longer is.
func (r recordEvent) recordPath(f pathcheck.Finding, gone bool) {
	switch {
	case gone:
		r(corev1.EventTypeNormal, "PathResolved", f.Detail+": no longer so")
	case f.Open:
		r(corev1.EventTypeWarning, "PathOpen", f.String())
	default:
		r(corev1.EventTypeWarning, "PathLimited", f.String())
	}
}

// nodeEvents returns what writes Events of the Node, until ctx ends. Equal ones that follow one another become one
// Event that is counted.
func nodeEvents(ctx context.Context, config *rest.Config, node string) (recordEvent, error) {
	client, err := clustercache.ClientFor(config, &corev1.Event{})
	if err != nil {
		return nil, err
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&eventSink{ctx, client})
	recorder := broadcaster.NewRecorder(clustercache.Scheme(), corev1.EventSource{Component: "tierwall-enforcer", Host: node})
	// The kubelet, too, gives the node's name for its UID in Events.
	of := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID(node)}
	return func(kind, reason, message string) { recorder.Event(of, kind, reason, message) }, nil
}

// eventSink has Events written to the API server.
type eventSink struct {
	ctx    context.Context //nolint:containedctx // record.EventSink gives none
	client rest.Interface
}

// Create makes an Event.
func (s *eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
	return decodeWritten(s.ctx, s.client.Post().Namespace(e.Namespace).Body(e))
}

// Update replaces an Event.
func (s *eventSink) Update(e *corev1.Event) (*corev1.Event, error) {
	return decodeWritten(s.ctx, s.client.Put().Namespace(e.Namespace).Name(e.Name).Body(e))
}

// Patch changes an Event.
func (s *eventSink) Patch(e *corev1.Event, patch []byte) (*corev1.Event, error) {
	return decodeWritten(s.ctx, s.client.Patch(types.StrategicMergePatchType).Namespace(e.Namespace).Name(e.Name).Body(patch))
}

func decodeWritten(ctx context.Context, r *rest.Request) (*corev1.Event, error) {
	out := &corev1.Event{}
	return out, r.Resource("events").Do(ctx).Into(out)
}
