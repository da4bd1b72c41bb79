// Package powercut is a file layer that remembers what would be lost. It mounts a
// folder over another by FUSE and takes down, in order, every write, truncation,
// rename and fsync that a process does there. From that it makes the folder as a
// power cut at any moment could have left it: what was fsynced is there; of the
// rest anything between nothing and all, in any order for data, sector by sector,
// and in their order for names, as file systems with a journal keep them.
//
//	rec, err := powercut.Mount(t.TempDir(), t.TempDir())
//	... start a child process that works in rec.Dir() and calls Ack after each promise
//	err = rec.Close()                              // after the child was killed
//	for range 1000 {
//		cut := rng.IntN(rec.Len() + 1)
//		err = rec.Image(rng, cut, dir)             // the disk after the cut
//		promised := rec.Acked(cut)                 // the last Ack before it
//		... open dir and compare
//	}
//
// The worker must be another process: one that maps files of a file system that
// it serves itself stands still for ever.
//
// Nothing is assumed of the worker, so a missing fsync of a file or of its folder
// shows, whatever library it was left out in.
package powercut
