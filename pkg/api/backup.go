package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
)

// ErrBackup is in the errors of [Backups] that the caller can mend: its text says
// how.
var ErrBackup = errors.New("cannot be backed up there")

// Backups copies the hub's data. Safe for concurrent use.
type Backups interface {
	// Backup copies everything into the folder dir of this machine, and tells tell
	// how far it is, from its own goroutine.
	Backup(ctx context.Context, dir string, tell func(BackupProgress)) error
}

// BackupProgress is a line of the answer to a request for a backup. The last line
// has Done or Error.
type BackupProgress struct {
	Step  string `json:"step,omitempty"`  // ledger, texts, store, copy
	Bytes int64  `json:"bytes,omitempty"` // copied so far
	Of    int64  `json:"of,omitempty"`    // of so many, 0: not known
	Files int    `json:"files,omitempty"`
	Done  bool   `json:"done,omitempty"`
	Error string `json:"error,omitempty"`
}

func (h *Handler) mountBackups() {
	if h.cfg.Backups != nil {
		h.handle("POST /api/v1/backup", h.backup)
	}
}

// backup answers with lines of JSON, so that who waits sees how far it is.
func (h *Handler) backup(w http.ResponseWriter, r *http.Request) {
	var body backupBody
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&body); err != nil || body.Dir == "" {
		h.problem(w, r, http.StatusBadRequest, "no folder given", `the body is {"dir": "/folder/of/the/backup"}`)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	// It takes longer than a request may take to arrive; recorders in tests have no deadlines.
	_ = out.SetReadDeadline(time.Time{})
	tell := func(p BackupProgress) {
		h.encode(w, r, p)
		_ = out.Flush() // a client that has gone ends the request's context
	}
	switch err := h.cfg.Backups.Backup(r.Context(), body.Dir, tell); {
	case errors.Is(err, ErrBackup):
		tell(BackupProgress{Error: err.Error()})
	case err != nil:
		h.cfg.Logger.Error("backup failed", "dir", body.Dir, "err", err)
		tell(BackupProgress{Error: err.Error()}) // the request came from this machine
	default:
		tell(BackupProgress{Done: true})
	}
}
