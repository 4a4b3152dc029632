package main

import (
	stdbytes "bytes"
	"io"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/tierwall/tierwall/clustercache"
)

// stream writes objects and events in the encoding that a request asks for.
type stream struct {
	out, frames io.Writer
	info        runtime.SerializerInfo
	buffer      stdbytes.Buffer
}

func newStream(w http.ResponseWriter, r *http.Request) *stream {
	media := runtime.ContentTypeJSON
	if strings.Contains(r.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
		media = runtime.ContentTypeProtobuf
	}
	info, _ := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), media)
	if r.URL.Query().Get("watch") == "true" {
		media += ";stream=watch"
	}
	w.Header().Set("Content-Type", media)
	return &stream{out: w, frames: info.StreamSerializer.NewFrameWriter(w), info: info}
}

// write writes an object alone.
func (s *stream) write(object runtime.Object) error { return s.info.Serializer.Encode(object, s.out) }

// event writes an event of a watch.
func (s *stream) event(what watch.EventType, object runtime.Object) error {
	s.buffer.Reset()
	if err := s.info.Serializer.Encode(object, &s.buffer); err != nil {
		return err
	}
	return s.info.StreamSerializer.Encode(&metav1.WatchEvent{Type: string(what), Object: runtime.RawExtension{Raw: s.buffer.Bytes()}}, s.frames)
}

var codecs = serializer.NewCodecFactory(clustercache.Scheme()).WithoutConversion()
