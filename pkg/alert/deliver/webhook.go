package deliver

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/alert/feed"
)

// webhook posts every entry. Requests are signed as the specification Standard
// Webhooks says (standardwebhooks.com), so that receivers find a library:
//
//	webhook-id: the event's ID
//	webhook-timestamp: seconds since 1970, when it was sent
//	webhook-signature: v1,BASE64(HMAC-SHA256(key, id + "." + timestamp + "." + body))
type webhook struct {
	cfg    *WebhookConfig
	source string
	parts  *Parts
	client *http.Client
	header http.Header
	key    []byte
	body   *template.Template // nil: the event itself
}

func newWebhook(c *WebhookConfig, source string, parts *Parts) (*webhook, error) {
	w := &webhook{cfg: c, source: source, parts: parts, client: newHTTP(c.Timeout, c.AllowPrivate), header: http.Header{}}
	w.header.Set("User-Agent", userAgent)
	w.header.Set("Content-Type", feed.ContentType)
	var err error
	if c.Body != "" {
		if w.body, err = parseTemplate(c.Body); err != nil {
			return nil, err
		}
		w.header.Set("Content-Type", or(c.ContentType, "application/json"))
	}
	for name, value := range c.Headers {
		w.header.Set(name, value)
	}
	if c.Bearer.Set() {
		b, err := c.Bearer.Read()
		if err != nil {
			return nil, err
		}
		w.header.Set("Authorization", "Bearer "+string(b))
	}
	if c.Secret.Set() {
		b, err := c.Secret.Read()
		if err != nil {
			return nil, err
		}
		if w.key, err = signingKey(b); err != nil {
			return nil, err
		}
	}
	return w, nil
}

const userAgent = "langbiang-hub"

// signingKey reads a key: whsec_ and base64, or the bytes themselves.
func signingKey(secret []byte) ([]byte, error) {
	encoded, ok := strings.CutPrefix(string(secret), "whsec_")
	if !ok {
		return secret, nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("after whsec_ the secret is no base64") //nolint:errorlint,nolintlint // the error would show a part of it
	}
	return key, nil
}

// sign returns the value of webhook-signature.
func sign(key []byte, id, timestamp string, body []byte) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(id + "." + timestamp + "."))
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

func (w *webhook) deliver(ctx context.Context, entries []alert.Entry) (int, error) {
	for i := range entries {
		e, err := feed.EventOf(&entries[i], w.source)
		if err == nil {
			err = w.post(ctx, &e, &entries[i])
		}
		if err != nil {
			return i, err
		}
	}
	return len(entries), nil
}

func (w *webhook) post(ctx context.Context, e *feed.Event, entry *alert.Entry) error {
	body, err := w.render(e, entry)
	if err != nil {
		return err
	}
	now := w.parts.Now()
	header := w.header.Clone()
	stamp := strconv.FormatInt(now.Unix(), 10)
	header.Set("webhook-id", e.ID)
	header.Set("webhook-timestamp", stamp)
	if w.key != nil {
		header.Set("webhook-signature", sign(w.key, e.ID, stamp, body))
	}
	_, err = post(ctx, w.client, w.cfg.URL, header, body, now)
	return err
}

func (w *webhook) render(e *feed.Event, entry *alert.Entry) ([]byte, error) {
	if w.body == nil {
		return json.Marshal(e)
	}
	var b bytes.Buffer
	if err := w.body.Execute(&b, templateData(e, entry, w.parts)); err != nil {
		return nil, &refusal{"the template of the body fails: " + err.Error()}
	}
	return b.Bytes(), nil
}

// idle sends a heartbeat.
func (w *webhook) idle(ctx context.Context, now time.Time) (time.Time, bool, error) {
	if w.cfg.Heartbeat <= 0 {
		return time.Time{}, false, nil
	}
	e := w.telling(feed.TypeHeartbeat)
	return now.Add(w.cfg.Heartbeat), false, w.post(ctx, &e, &alert.Entry{})
}

func (w *webhook) telling(kind string) feed.Event {
	p := feed.Newest(w.parts.Log)
	return feed.Telling(kind, w.source, feed.Told{Generation: p.Generation, Sequence: p.Sequence}, w.parts.Now())
}

func (w *webhook) probe(ctx context.Context, _ string) (string, error) {
	e := w.telling(feed.TypeTest)
	if err := w.post(ctx, &e, testEntry(w.parts.Now())); err != nil {
		return "", err
	}
	return "the receiver has taken an event of type " + feed.TypeTest, nil
}

func (w *webhook) close() { w.client.CloseIdleConnections() }
