package powercut

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// ErrUnsupported says that this machine, or this user, has no FUSE.
var ErrUnsupported = errors.New("no FUSE here")

const ackName = "acks"

type kind uint8

const (
	opWrite kind = iota
	opTruncate
	opSync
	opCreate
	opMkdir
	opRename
	opRemove
	opSyncDir
)

// op is one thing that the worker did.
type op struct {
	kind     kind
	file     int    // number of the file: data operations and opCreate
	path, to string // relative to the folder: operations on names
	off      int64  // opWrite: where; opTruncate: the size
	data     []byte
}

// Recorder is a mounted folder.
type Recorder struct {
	dir    string
	server *fuse.Server
	root   *fs.LoopbackRoot

	fails atomic.Int32 // the syscall.Errno that whatever writes ends with; 0: none

	mu    sync.Mutex // held while an operation is done and taken down: their order is true
	ops   []op
	files map[uint64]int // by inode
	next  int
}

// Mount serves what is in the folder backing, which must be empty, under dir.
func Mount(backing, dir string) (*Recorder, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(backing, &st); err != nil {
		return nil, fmt.Errorf("powercut: %w", err)
	}
	r := &Recorder{dir: dir, files: map[uint64]int{}}
	r.root = &fs.LoopbackRoot{Path: backing, Dev: uint64(st.Dev)}
	top := &node{LoopbackNode: fs.LoopbackNode{RootData: r.root}, r: r}
	r.root.RootNode = top
	server, err := fs.Mount(dir, top, &fs.Options{MountOptions: fuse.MountOptions{DirectMount: true, Name: "powercut", FsName: "powercut"}})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	r.server = server
	return r, nil
}

// Dir is where the worker works.
func (r *Recorder) Dir() string { return r.dir }

// Close unmounts the folder. The worker must have ended.
func (r *Recorder) Close() error {
	if err := r.server.Unmount(); err != nil {
		return fmt.Errorf("powercut: %w", err)
	}
	r.server.Wait()
	return nil
}

// Fail makes everything that writes end with an error from now on, as on a disk that
// is full (ENOSPC), broken (EIO) or mounted read-only (EROFS); 0 lets it write
// again. What has been written can be read all the same.
func (r *Recorder) Fail(errno syscall.Errno) { r.fails.Store(int32(errno)) }

func (r *Recorder) failure() syscall.Errno { return syscall.Errno(r.fails.Load()) }

// broken is failure for what needs no room.
func (r *Recorder) broken() syscall.Errno {
	if errno := r.failure(); errno != syscall.ENOSPC {
		return errno
	}
	return 0
}

// Len is how many operations were taken down.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ops)
}

// Ack notes, in the order of the operations, what the worker has promised by now.
// The worker calls it.
func Ack(dir, promise string) error {
	f, err := os.OpenFile(filepath.Join(dir, ackName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(promise + "\n")
	return errors.Join(err, f.Close())
}

// Acked is the last promise before a cut, "" if there was none.
func (r *Recorder) Acked(cut int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	acks := -1
	for i := range r.ops {
		if o := &r.ops[i]; o.kind == opCreate && o.path == ackName {
			acks = o.file
		}
	}
	for i := min(cut, len(r.ops)) - 1; i >= 0; i-- {
		if o := &r.ops[i]; o.kind == opWrite && o.file == acks {
			return strings.TrimSuffix(string(o.data), "\n")
		}
	}
	return ""
}

// node is a file or a folder.
type node struct {
	fs.LoopbackNode
	r *Recorder
}

// WrapChild implements [fs.NodeWrapChilder]: what lies below is one of ours too.
func (n *node) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	if l, ok := child.(*fs.LoopbackNode); ok {
		return &node{LoopbackNode: fs.LoopbackNode{RootData: l.RootData}, r: n.r}
	}
	return child
}

// rel is the path of a name in this folder, relative to the top.
func (n *node) rel(name string) string { return filepath.Join(n.Path(n.Root()), name) }

func (n *node) note(o op) { n.r.ops = append(n.r.ops, o) }

// number is the file's; the caller holds mu.
func (n *node) number() int { return n.r.files[n.StableAttr().Ino] }

// Create implements [fs.NodeCreater].
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.r.failure(); errno != 0 {
		return nil, nil, 0, errno
	}
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	inode, fh, fl, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	n.r.next++
	id := n.r.next
	n.r.files[inode.StableAttr().Ino] = id
	n.note(op{kind: opCreate, file: id, path: n.rel(name)})
	return inode, &handle{FileHandle: fh, r: n.r, file: id}, fl, 0
}

// Open implements [fs.NodeOpener].
func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.r.failure(); errno == syscall.EROFS && flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return nil, 0, errno
	}
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	fh, fl, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	if flags&syscall.O_TRUNC != 0 {
		n.note(op{kind: opTruncate, file: n.number()})
	}
	return &handle{FileHandle: fh, r: n.r, file: n.number()}, fl, 0
}

// Setattr implements [fs.NodeSetattrer].
func (n *node) Setattr(ctx context.Context, fh fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if errno := n.r.failure(); errno != 0 {
		return errno
	}
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	if h, ok := fh.(*handle); ok {
		fh = h.FileHandle
	}
	errno := n.LoopbackNode.Setattr(ctx, fh, in, out)
	if size, ok := in.GetSize(); ok && errno == 0 {
		n.note(op{kind: opTruncate, file: n.number(), off: int64(size)})
	}
	return errno
}

// Getattr implements [fs.NodeGetattrer].
func (n *node) Getattr(ctx context.Context, fh fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if h, ok := fh.(*handle); ok {
		fh = h.FileHandle
	}
	return n.LoopbackNode.Getattr(ctx, fh, out)
}

// Mkdir implements [fs.NodeMkdirer].
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.r.failure(); errno != 0 {
		return nil, errno
	}
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	inode, errno := n.LoopbackNode.Mkdir(ctx, name, mode, out)
	if errno == 0 {
		n.note(op{kind: opMkdir, path: n.rel(name)})
	}
	return inode, errno
}

// Rename implements [fs.NodeRenamer].
func (n *node) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, to string, flags uint32) syscall.Errno {
	if errno := n.r.broken(); errno != 0 {
		return errno
	}
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	target, ok := parent.(*node)
	if !ok {
		return syscall.EXDEV
	}
	o := op{kind: opRename, path: n.rel(name), to: target.rel(to)}
	if flags != 0 {
		return syscall.EINVAL
	}
	errno := n.LoopbackNode.Rename(ctx, name, &target.LoopbackNode, to, flags)
	if errno == 0 {
		n.note(o)
	}
	return errno
}

// Unlink implements [fs.NodeUnlinker].
func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	if errno := n.r.broken(); errno != 0 {
		return errno
	}
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	errno := n.LoopbackNode.Unlink(ctx, name)
	if errno == 0 {
		n.note(op{kind: opRemove, path: n.rel(name)})
	}
	return errno
}

// Rmdir implements [fs.NodeRmdirer].
func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	if errno := n.r.broken(); errno != 0 {
		return errno
	}
	n.r.mu.Lock()
	defer n.r.mu.Unlock()
	errno := n.LoopbackNode.Rmdir(ctx, name)
	if errno == 0 {
		n.note(op{kind: opRemove, path: n.rel(name)})
	}
	return errno
}

// Links are not recorded and so not offered. Sockets (Mknod) are no files.

// Link implements [fs.NodeLinker].
func (n *node) Link(context.Context, fs.InodeEmbedder, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.ENOTSUP
}

// Symlink implements [fs.NodeSymlinker].
func (n *node) Symlink(context.Context, string, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.ENOTSUP
}

// CopyFileRange implements [fs.NodeCopyFileRanger].
func (n *node) CopyFileRange(context.Context, fs.FileHandle, uint64, *fs.Inode, fs.FileHandle, uint64, uint64, uint64) (uint32, syscall.Errno) {
	return 0, syscall.ENOTSUP
}

// OpendirHandle implements [fs.NodeOpendirHandler].
func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	fh, fl, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &folder{FileHandle: fh, n: n}, fl, 0
}

// folder is an open folder.
type folder struct {
	fs.FileHandle
	n *node
}

// Fsyncdir implements [fs.FileFsyncdirer].
func (d *folder) Fsyncdir(context.Context, uint32) syscall.Errno {
	if errno := d.n.r.broken(); errno != 0 {
		return errno
	}
	d.n.r.mu.Lock()
	defer d.n.r.mu.Unlock()
	d.n.note(op{kind: opSyncDir, path: d.n.rel("")})
	return 0
}

// Readdirent implements [fs.FileReaddirenter].
func (d *folder) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	return d.FileHandle.(fs.FileReaddirenter).Readdirent(ctx)
}

// Seekdir implements [fs.FileSeekdirer].
func (d *folder) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	return d.FileHandle.(fs.FileSeekdirer).Seekdir(ctx, off)
}

// Releasedir implements [fs.FileReleasedirer].
func (d *folder) Releasedir(ctx context.Context, flags uint32) {
	d.FileHandle.(fs.FileReleasedirer).Releasedir(ctx, flags)
}

// handle is an open file.
type handle struct {
	fs.FileHandle
	r    *Recorder
	file int
}

// Read implements [fs.FileReader].
func (h *handle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return h.FileHandle.(fs.FileReader).Read(ctx, dest, off)
}

// Write implements [fs.FileWriter].
func (h *handle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	if errno := h.r.failure(); errno != 0 {
		return 0, errno
	}
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	n, errno := h.FileHandle.(fs.FileWriter).Write(ctx, data, off)
	if errno == 0 {
		h.r.ops = append(h.r.ops, op{kind: opWrite, file: h.file, off: off, data: append([]byte(nil), data[:n]...)})
	}
	return n, errno
}

// Fsync implements [fs.FileFsyncer]. The backing disk is not waited for: what it
// would mean is taken down.
func (h *handle) Fsync(context.Context, uint32) syscall.Errno {
	if errno := h.r.broken(); errno != 0 {
		return errno
	}
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	h.r.ops = append(h.r.ops, op{kind: opSync, file: h.file})
	return 0
}

// Allocate implements [fs.FileAllocater]. It is refused, as by file systems that
// cannot reserve: the size so changes by writes alone.
func (h *handle) Allocate(context.Context, uint64, uint64, uint32) syscall.Errno {
	return syscall.ENOTSUP
}

// Lseek implements [fs.FileLseeker].
func (h *handle) Lseek(ctx context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	return h.FileHandle.(fs.FileLseeker).Lseek(ctx, off, whence)
}

// Flush implements [fs.FileFlusher].
func (h *handle) Flush(ctx context.Context) syscall.Errno {
	return h.FileHandle.(fs.FileFlusher).Flush(ctx)
}

// Release implements [fs.FileReleaser].
func (h *handle) Release(ctx context.Context) syscall.Errno {
	return h.FileHandle.(fs.FileReleaser).Release(ctx)
}
