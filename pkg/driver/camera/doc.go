// Package camera looks after cameras: is one alive, what does it send, can
// anything be seen. A [Config] is one connection: cameras that are reached with
// the same user. Where a camera is stands in its profile, with
// parameters of the device in it:
//
//	camera: {rtsp: "rtsp://{host}/stream1", snapshot: "http://{host}/snap.jpg"}
//
// One of both is enough. Each camera has a goroutine and a grid of slots of its
// own, so one that does not answer costs the others nothing; streams and
// pictures, which cost bandwidth and memory, are taken a few at a time.
//
//	probe   RTSP OPTIONS and DESCRIBE, every slot: answer_time, codec
//	sample  the stream from its first key frame on for some seconds, as often as
//	        its points are worth reading: frame_rate, bit_rate
//	picture a JPEG by HTTP: picture_size, picture_age, dark, frozen
//
// A device is up when one of the two answers.
//
// # Nothing leaves
//
// No picture is kept or sent on. Of a snapshot only a thumbnail of 32 x 18 grey
// means stays in memory until the next one; of a stream, nothing but counts.
//
// # Bounds
//
// Whatever a camera sends, a probe ends after its timeout, reads at most
// [maxStream] bytes of a stream and [maxPicture] of a picture, and decodes a
// picture only when its size in memory is small. It connects to the host that
// was configured and follows no redirection to another: a password is given to
// nobody else.
//
// # Dark and frozen
//
// A picture is dark when its mean luminance is below 16 of 255, or when it has
// next to no contrast: a lens that was painted over is as blind as a covered
// one. Snapshots are frozen when no part of the thumbnail, but for the rows at
// its upper and lower edge where many cameras write the time, has changed by half
// a grey level for frozen_after: what a living sensor sees is never that still.
package camera
