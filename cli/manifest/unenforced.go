package manifest

import "github.com/tierwall/tierwall/internal/unenforced"

// Unenforced counts the policies among the objects that other engines enforce.
func (r Reading) Unenforced() []unenforced.Count {
	c := unenforced.Counter{}
	for _, o := range r.Objects {
		if o.Value == nil {
			c.Add(groupOf(o.APIVersion), o.Kind)
		}
	}
	return c.Counts()
}
