package hub

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/langbiang/langbiang/pkg/api"
	"github.com/langbiang/langbiang/pkg/internal/settings"
	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/tsdb/texts"
)

// The parts of a data folder that a backup holds, and in a backup the folders of
// the same name. What else is there (the bus, frames that were refused) is of the
// moment.
const (
	ledgerDir = "ledger"
	storeDir  = "tsdb"
	textsDir  = "texts"
)

// backups implements [api.Backups].
type backups struct {
	hub     *Hub
	version string
	busy    chan struct{} // holds a token while one is made
}

// Backup implements [api.Backups]. The order makes it consistent: what the ledger
// calls safe is in the store before the ledger is copied, so a store that is copied
// later has it, and perhaps more, which the edges send again and the store keeps
// once.
func (b *backups) Backup(ctx context.Context, dir string, tell func(api.BackupProgress)) error {
	select {
	case b.busy <- struct{}{}:
		defer func() { <-b.busy }()
	default:
		return fmt.Errorf("%w: another backup is being made; wait for it", api.ErrBackup)
	}
	if err := emptyTarget(dir, b.hub.plan.Config.DataDir); err != nil {
		return err
	}
	start := time.Now()
	c := &copier{to: dir}
	m := &manifest{
		Version: manifestVersion, Created: start.UTC(), Hub: b.version, Ledger: ledger.FormatVersion, Formats: formats,
		Store: b.hub.plan.Config.Store.Kind, Generation: b.hub.ledger.Generation(),
	}
	tell(api.BackupProgress{Step: ledgerDir})
	err := c.pipe(ctx, ledgerDir+"/"+ledger.FileName, func(w io.Writer) (err error) {
		m.Sequence, err = b.hub.ledger.Backup(w)
		return err
	})
	if err != nil {
		return err
	}
	tell(api.BackupProgress{Step: textsDir})
	if err := c.pipe(ctx, textsDir+"/"+texts.FileName, b.hub.texts.Backup); err != nil {
		return err
	}
	// The authority, or every gateway would have to be enrolled anew.
	if dir := filepath.Join(b.hub.plan.Config.DataDir, identityFolder); exists(dir) {
		if err := c.tree(ctx, dir, identityFolder); err != nil {
			return err
		}
	}
	if b.hub.local != nil {
		tell(api.BackupProgress{Step: "store"})
		from, done, err := b.hub.local.Snapshot(ctx)
		if err != nil {
			return err
		}
		of := treeSize(from)
		c.tell = func() { tell(api.BackupProgress{Step: "copy", Bytes: c.bytes, Of: of, Files: len(c.files)}) }
		if err := errors.Join(c.tree(ctx, from, storeDir), done()); err != nil {
			return err
		}
	}
	if err := c.finish(); err != nil {
		return err
	}
	if err := c.write(m); err != nil {
		return err
	}
	if err := b.hub.backedUp.set(start); err != nil {
		b.hub.logger.Error("the time of the backup cannot be kept", "err", err)
	}
	tell(api.BackupProgress{Step: "copy", Bytes: c.bytes, Of: m.size(), Files: len(m.Files)})
	b.hub.logger.Info("backup made", "dir", dir, "files", len(m.Files), "bytes", m.size(), "took", time.Since(start).Round(time.Millisecond))
	return nil
}

// settingBackup is the record of the newest backup.
const settingBackup = "last_backup"

// backedUp is when the newest backup was made. It is safe for concurrent use.
type backedUp struct {
	ledger *ledger.Ledger
	ms     atomic.Int64 // 0: none is known
}

func (b *backedUp) open(l *ledger.Ledger, reg prometheus.Registerer) error {
	b.ledger = l
	data, ok, err := l.GetRecord(settingKind, settingBackup)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	if ok {
		var at time.Time
		if err := json.Unmarshal(data, &at); err != nil {
			return fmt.Errorf("ledger: the time of the newest backup: %w", err)
		}
		b.ms.Store(at.UnixMilli())
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "langbiang_hub_backup_timestamp_seconds", Help: "When the newest backup was made by langbiang-hub backup; 0 when none is known.",
	}, func() float64 { return float64(b.ms.Load()) / 1000 }))
	return nil
}

func (b *backedUp) get() time.Time {
	if ms := b.ms.Load(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

func (b *backedUp) set(at time.Time) error {
	data, err := json.Marshal(at.UTC())
	if err != nil {
		return err
	}
	b.ms.Store(at.UnixMilli())
	return b.ledger.PutRecord(settingKind, settingBackup, data)
}

// emptyTarget makes sure that the target is an empty folder outside of the data.
func emptyTarget(dir, data string) error {
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%w: %q is not an absolute path", api.ErrBackup, dir)
	}
	data, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(data, dir); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
		return fmt.Errorf("%w: %s lies in the hub's own data folder; choose a folder on another disk", api.ErrBackup, dir)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("%w: %w; choose a folder that the hub may write to: as a service it writes to /var/backups/langbiang-hub, and where ReadWritePaths= of its unit allows it", api.ErrBackup, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", api.ErrBackup, err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s is not empty (%s ...); give each backup a folder of its own", api.ErrBackup, dir, entries[0].Name())
	}
	return nil
}

// treeSize returns the bytes of the files in a folder, as far as it can be read.
func treeSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if st, err := e.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}

func backupCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "backup DIR", Short: "let the running hub copy its data into a new folder; see docs/store.md",
		Args: cobra.ExactArgs(1),
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			dir, err := filepath.Abs(c.Args[0])
			if err != nil {
				return err
			}
			return askBackup(ctx, plan, dir, c.Stdout)
		},
	}
}

// askBackup asks the running hub for a backup and shows how far it is.
func askBackup(ctx context.Context, plan *Plan, dir string, out io.Writer) error {
	body, err := json.Marshal(map[string]string{"dir": dir})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, consoleURL+"/api/v1/backup", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := plan.console().Do(req)
	if err != nil {
		return fmt.Errorf("%w; a hub that does not run is backed up by a copy of its data_dir", plan.unreached(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return errors.Join(fmt.Errorf("the hub answered %s: %s", resp.Status, strings.TrimSpace(string(b))), err)
	}
	var last api.BackupProgress
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var p api.BackupProgress
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return fmt.Errorf("the hub's answer cannot be read: %w", err)
		}
		switch {
		case p.Error != "":
			return errors.New(p.Error)
		case p.Done:
			_, err := fmt.Fprintf(out, "backup in %s: %s, %.1f MB\n", dir, settings.Count(last.Files, "file"), float64(last.Bytes)/1e6)
			return err
		case p.Step == "copy":
			_, _ = fmt.Fprintf(out, "  %.1f of %.1f MB\n", float64(p.Bytes)/1e6, float64(p.Of)/1e6)
		default:
			_, _ = fmt.Fprintf(out, "%s ...\n", p.Step)
		}
		last = p
	}
	return errors.Join(errors.New("the hub ended before the backup was whole"), lines.Err())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
