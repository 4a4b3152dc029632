package admit

import (
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// apiObject is implemented by pointers to API objects of type T.
type apiObject[T any] interface {
	*T
	client.Object
}

// decodeOldAndNew returns the object before and after the request; nil means absent.
func decodeOldAndNew[T any, P apiObject[T]](d admission.Decoder, req admission.Request) (old, now P, err error) {
	if old, err = decodeObject[T, P](d, req, req.OldObject); err != nil {
		return nil, nil, fmt.Errorf("read the %s before the change: %w", req.Kind.Kind, err)
	}
	if now, err = decodeObject[T, P](d, req, req.Object); err != nil {
		return nil, nil, fmt.Errorf("read the %s: %w", req.Kind.Kind, err)
	}
	if old == nil && now == nil {
		return nil, nil, fmt.Errorf("the request has no %s", req.Kind.Kind)
	}
	return old, now, nil
}

func decodeObject[T any, P apiObject[T]](d admission.Decoder, req admission.Request, raw runtime.RawExtension) (P, error) {
	if len(raw.Raw) == 0 {
		return nil, nil
	}
	o := P(new(T))
	if err := d.DecodeRaw(raw, o); err != nil {
		return nil, err
	}
	if o.GetNamespace() == "" {
		o.SetNamespace(req.Namespace)
	}
	return o, nil
}

// isDeletion reports whether an update removes the last finalizer of a terminating object, which deletes it.
func isDeletion[T any, P apiObject[T]](req admission.Request, now P) bool {
	return req.Operation == admissionv1.Update && now.GetDeletionTimestamp() != nil && len(now.GetFinalizers()) == 0
}

// asDeletion returns a request as the DELETE that it is equivalent to.
func asDeletion(req admission.Request) admission.Request {
	req.Operation, req.Object = admissionv1.Delete, runtime.RawExtension{}
	return req
}
