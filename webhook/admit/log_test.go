package admit

import (
	"log/slog"
	"strings"
)

var discardLog = slog.New(slog.DiscardHandler)

func containsText(text, part string) bool { return strings.Contains(text, part) }
