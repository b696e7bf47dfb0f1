package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/sigstack/sigstack/tlog/events"
)

// pollEvents is how often a replica asks for the entries that others have added, to
// deliver them. It hears of its own at once.
const pollEvents = time.Second

// The sinks of events.
const (
	webhookSink = "webhook"
	fileSink    = "file"
)

var eventSinks = []string{webhookSink, fileSink}

// fileCursor is the cursor of a sink in a data directory.
func fileCursor(c *Config, sink string) events.Cursor {
	return events.NewFileCursor(filepath.Join(c.DataDir, "rekorv1", "events-"+sink))
}

// openEvents opens the sinks that the configuration names. That comes before
// anything is served: what is added from then on is delivered.
func (s *server) openEvents(ctx context.Context) error {
	c := s.config.Rekor.Events
	sinks := map[string]events.Sink{}
	if c.Webhook != "" {
		token := func() (string, error) { return bearerToken(c.WebhookTokenFile) }
		if _, err := token(); err != nil {
			return fmt.Errorf("rekor.events.webhook-token-file: %w", err)
		}
		sinks[webhookSink] = events.NewWebhook(c.Webhook, c.WebhookBatch, token, s.now)
	}
	if c.File != "" {
		sinks[fileSink] = events.NewFile(c.File)
	}
	var poll time.Duration
	if s.storage.shared() {
		poll = pollEvents
	}
	for name, sink := range sinks {
		f, err := events.Open(ctx, events.Config{
			Name: name, Log: s.rekor, Sink: sink, Cursor: s.storage.cursor(name), Format: events.Format(c.Format),
			FromStart: c.From == "start", Poll: poll, After: time.After, Logger: s.logger,
		})
		if err != nil {
			return fmt.Errorf("opening the events: %w", err)
		}
		observeFollower(s.metrics, name, f)
		s.followers = append(s.followers, f)
	}
	return nil
}

// bearerToken reads a token (RFC 6750, section 2.1) from a file; none is named
// where there is no token.
func bearerToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	token, err := readSecret(file)
	if err != nil {
		return "", err
	}
	if strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", errors.New(file + " holds something else than a token: one line of printable ASCII without spaces is required")
	}
	return token, nil
}
