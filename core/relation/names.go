package relation

import (
	"errors"
	"slices"

	"github.com/penstock-data/penstock/core/query"
	"github.com/penstock-data/penstock/sources"
)

// A relation has several names. A load may use any of them, and the relation's column,
// its path and its figures have the name that the load uses.

// mergeAliases returns branches with each relation once, under the first name that the
// load has for it. named has these names by relation, and gets those of the branches.
// Names that lead to no relation stay; buildNode reports them.
func (r *resolver) mergeAliases(table *sources.Table, branches []query.Branch, p parentPath, named map[*sources.Relation]string) []query.Branch {
	branches = slices.Clone(branches)
	for i := range branches {
		relation, err := table.FindRelation(branches[i].Name)
		if err != nil {
			continue
		}
		if named[relation] == "" {
			named[relation] = branches[i].Name
		}
		branches[i].Name = named[relation]
	}
	branches, err := query.MergeBranches(nil, branches)
	if err != nil {
		r.errorf("%s%w", p.path, err)
	}
	return branches
}

// nameError adds an error of [sources.Table.FindRelation].
func (r *resolver) nameError(path string, err error) {
	r.missing = r.missing || len(r.errs) == 0 && sources.KindOf(err) == sources.NotFound
	r.errorf("%s: %w", path, cause(err))
}

// cause returns an error without its kind, which the error of the whole load states.
func cause(err error) error {
	var e *sources.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
