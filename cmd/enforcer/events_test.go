package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

func TestRepairsBecomeOneEventThatIsCounted(t *testing.T) {
	written := make(chan string)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind": "Event", "apiVersion": "v1", "metadata": {"namespace": "default", "name": "node-1.1"}}`))
		written <- r.Method + " " + r.URL.Path
	}))
	defer api.Close()
	record, err := nodeEvents(t.Context(), &rest.Config{Host: api.URL}, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"POST /api/v1/namespaces/default/events", "PATCH /api/v1/namespaces/default/events/node-1.",
		"PATCH /api/v1/namespaces/default/events/node-1."} {
		record.recordRepair()
		if got := <-written; !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
