package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// remote is a hub that a command asks over HTTP, from wherever it is: with the token
// of a machine, and the authority that the hub's certificate is from.
type remote struct {
	hub, token, ca string
	client         *http.Client
}

// envToken is the environment variable that has the token when no file is named.
const envToken = "LANGBIANG_TOKEN"

func (r *remote) flags(f *pflag.FlagSet, hub, usage string) {
	f.StringVar(&r.hub, "hub", hub, usage)
	f.StringVar(&r.token, "token-file", "", "file with a token for that hub, from langbiang-hub tokens new; or the token itself in "+envToken)
	f.StringVar(&r.ca, "ca-file", "", "file with the authority of the hub's certificate, where the system does not know it")
}

// open makes the client.
func (r *remote) open() error {
	if r.client != nil {
		return nil
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if r.ca != "" {
		pem, err := os.ReadFile(r.ca)
		if err != nil {
			return fmt.Errorf("--ca-file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return fmt.Errorf("--ca-file %s: there is no certificate in it", r.ca)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if r.token != "" {
		data, err := os.ReadFile(r.token)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		r.token = strings.TrimSpace(string(data))
	} else {
		r.token = os.Getenv(envToken)
	}
	r.client = &http.Client{Transport: transport, Timeout: time.Minute}
	return nil
}

// get reads JSON from the hub's API.
func (r *remote) get(ctx context.Context, path string, query url.Values, answer any) error {
	if err := r.open(); err != nil {
		return err
	}
	u := strings.TrimRight(r.hub, "/") + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return err
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("the hub does not answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<30))
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusUnauthorized:
		return errors.New("the hub wants a token, or does not know this one; make one on its machine with langbiang-hub tokens new NAME, and give it as --token-file or in " + envToken)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("the hub answered %s: %.300s", resp.Status, data)
	}
	return json.Unmarshal(data, answer)
}

// listAll reads every page of a list of a hub's API.
func listAll[T any](ctx context.Context, r *remote, path string) (all []T, err error) {
	for cursor := ""; ; {
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next"`
		}
		query := url.Values{"limit": {"1000"}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		if err := r.get(ctx, path, query, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}
