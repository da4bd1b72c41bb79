package camera

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"time"
)

// What a picture may take in memory while it is looked at. A progressive one
// needs six bytes and more for each pixel.
const (
	maxPixels      = 16 << 20
	maxProgressive = 2 << 20
)

var errNoJPEG = errors.New("is no JPEG picture")

// shape is what the header of a JPEG says.
type shape struct {
	width, height int
	progressive   bool
}

// shapeOf reads the header of a JPEG up to its frame.
func shapeOf(b []byte) (shape, error) {
	if len(b) < 4 || b[0] != 0xff || b[1] != 0xd8 {
		return shape{}, errNoJPEG
	}
	for i := 2; i+4 <= len(b); {
		if b[i] != 0xff {
			return shape{}, errNoJPEG
		}
		m := b[i+1]
		if m == 0xff { // filling
			i++
			continue
		}
		n := int(b[i+2])<<8 | int(b[i+3])
		switch {
		case n < 2:
			return shape{}, errNoJPEG
		case m == 0xc0 || m == 0xc1 || m == 0xc2:
			if i+9 > len(b) {
				return shape{}, errNoJPEG
			}
			return shape{int(b[i+7])<<8 | int(b[i+8]), int(b[i+5])<<8 | int(b[i+6]), m == 0xc2}, nil
		case m == 0xda || m == 0xd9:
			return shape{}, errNoJPEG
		}
		i += 2 + n
	}
	return shape{}, errNoJPEG
}

const (
	thumbWidth, thumbHeight = 32, 18
	// edgeRows are left out when thumbnails are compared: there the time is written.
	edgeRows = 2
)

// thumb is a picture as grey means of 0 to 255.
type thumb [thumbWidth * thumbHeight]float64

// thumbOf decodes a JPEG and makes a thumbnail of it.
func thumbOf(b []byte) (*thumb, error) {
	s, err := shapeOf(b)
	if err != nil {
		return nil, err
	}
	limit := maxPixels
	if s.progressive {
		limit = maxProgressive
	}
	if s.width*s.height > limit {
		return nil, fmt.Errorf("the picture of %d x %d is too large to be looked at; take a smaller one", s.width, s.height)
	}
	if s.width < thumbWidth || s.height < thumbHeight {
		return nil, fmt.Errorf("the picture of %d x %d is too small", s.width, s.height)
	}
	img, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("the picture cannot be decoded: %w", err)
	}
	r := img.Bounds()
	grey := func(x, y int) float64 { r, g, b, _ := img.At(x, y).RGBA(); return float64(299*r+587*g+114*b) / 257000 }
	switch img := img.(type) {
	case *image.YCbCr:
		grey = func(x, y int) float64 { return float64(img.Y[img.YOffset(x, y)]) }
	case *image.Gray:
		grey = func(x, y int) float64 { return float64(img.GrayAt(x, y).Y) }
	}
	t := &thumb{}
	for cy := range thumbHeight {
		y0, y1 := r.Min.Y+cy*r.Dy()/thumbHeight, r.Min.Y+(cy+1)*r.Dy()/thumbHeight
		for cx := range thumbWidth {
			x0, x1 := r.Min.X+cx*r.Dx()/thumbWidth, r.Min.X+(cx+1)*r.Dx()/thumbWidth
			sum := 0.0
			for y := y0; y < y1; y++ {
				for x := x0; x < x1; x++ {
					sum += grey(x, y)
				}
			}
			t[cy*thumbWidth+cx] = sum / float64((x1-x0)*(y1-y0))
		}
	}
	return t, nil
}

// dark reports whether there is nothing to see.
func (t *thumb) dark() bool {
	sum, square := 0.0, 0.0
	for _, v := range t {
		sum += v
		square += v * v
	}
	mean := sum / float64(len(t))
	spread := math.Sqrt(max(0, square/float64(len(t))-mean*mean))
	return mean < 16 || spread < 2
}

// differs reports whether two pictures were taken of something that lives.
func (t *thumb) differs(o *thumb) bool {
	for i := edgeRows * thumbWidth; i < (thumbHeight-edgeRows)*thumbWidth; i++ {
		if math.Abs(t[i]-o[i]) >= 0.5 {
			return true
		}
	}
	return false
}

// still follows the snapshots of one camera.
type still struct {
	last  *thumb
	since time.Time // of the last change
}

// frozen takes the next picture and reports whether there was no change for the
// time.
func (s *still) frozen(t *thumb, now time.Time, after time.Duration) bool {
	if s.last == nil || t.differs(s.last) {
		s.last, s.since = t, now
		return false
	}
	return now.Sub(s.since) >= after
}
