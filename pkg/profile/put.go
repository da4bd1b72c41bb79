package profile

// maxElements bounds the arrays that Put makes.
const maxElements = 100

// Put puts a value where the path leads, in a document as encoding/json gives it,
// and returns the document. What is missing on the way is made: a star in a key
// that fits nothing becomes nothing. It is not ok, and the document stays as it
// is, when something else stands in the way.
func (p Path) Put(doc, v any) (any, bool) { return put(p.steps, doc, v) }

func put(steps []step, doc, v any) (any, bool) {
	if len(steps) == 0 {
		return v, true
	}
	st := steps[0]
	if st.array {
		list, ok := doc.([]any)
		if doc != nil && !ok || st.index >= maxElements || st.index < -maxElements {
			return doc, false
		}
		at := st.index
		if at < 0 {
			at = max(0, at+len(list))
		}
		for len(list) <= at {
			list = append(list, nil)
		}
		below, ok := put(steps[1:], list[at], v)
		if ok {
			list[at] = below
		}
		return list, ok
	}
	object, ok := doc.(map[string]any)
	if doc != nil && !ok {
		return doc, false
	}
	if object == nil {
		object = map[string]any{}
	}
	key := st.key
	if st.parts != nil {
		key = keyFor(st.parts, steps[1:], object)
	}
	below, ok := put(steps[1:], object[key], v)
	if ok {
		object[key] = below
	}
	return object, ok
}

// keyFor is the key that Lookup would take for one with stars, or a new one.
func keyFor(parts []string, rest []step, object map[string]any) string {
	best, made := "", ""
	for k := range object {
		if !fits(parts, k) || best != "" && k > best {
			continue
		}
		if _, ok := lookup(rest, object[k]); ok {
			best = k
		}
	}
	for _, part := range parts {
		made += part
	}
	if best == "" {
		return made
	}
	return best
}
