package admit

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/tierwall/tierwall/policy"
)

// maxReasons is how many reasons a refusal lists; the others are counted.
const maxReasons = 10

// A reason is why a request is refused, and the field at fault if there is one.
type denialReason struct {
	field, message string
	// line is the reason's line in the refusal; if empty, the message is.
	line string
}

// denyRequest returns the refusal of a request for the reasons.
func denyRequest(reasons ...denialReason) admission.Response {
	more := len(reasons) - maxReasons
	if more > 0 {
		reasons = reasons[:maxReasons]
	}
	lines := make([]string, 0, len(reasons)+1)
	details := &metav1.StatusDetails{}
	for _, r := range reasons {
		lines = append(lines, cmp.Or(r.line, r.message))
		details.Causes = append(details.Causes, metav1.StatusCause{Field: r.field, Message: r.message})
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	answer := admission.Denied(strings.Join(lines, "\n"))
	answer.Result.Details = details
	return answer
}

// internalError returns the refusal of a request that could not be judged.
func internalError(err error) admission.Response {
	answer := admission.Errored(http.StatusInternalServerError, err)
	answer.Result.Reason = metav1.StatusReasonInternalError
	return answer
}

// badRequest returns the refusal of a request whose object cannot be decoded.
func badRequest(err error) admission.Response {
	return admission.Errored(http.StatusBadRequest, err)
}

// problemReasons returns the compiler's problems as reasons.
func problemReasons(problems []policy.Problem) []denialReason {
	out := make([]denialReason, 0, len(problems))
	for _, p := range problems {
		out = append(out, denialReason{field: p.ID.Field, message: p.Error()})
	}
	return out
}

// fieldReasons returns the validation errors of the named object as reasons.
func fieldReasons(object string, errs field.ErrorList) []denialReason {
	out := make([]denialReason, 0, len(errs))
	for _, e := range errs {
		out = append(out, denialReason{field: e.Field, message: object + ": " + e.Error()})
	}
	return out
}
