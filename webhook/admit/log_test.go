package admit

import (
	"log/slog"
	"strings"
)

var discard = slog.New(slog.DiscardHandler)

func contains(text, part string) bool { return strings.Contains(text, part) }
