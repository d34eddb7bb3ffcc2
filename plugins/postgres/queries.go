package postgres

// The queries that load a catalog. Each runs once, however large the database is.
const (
	// tablesSQL returns the tables in order. $1 is the schema whose tables have unqualified
	// names; $2 lists the schemas to include, or is empty for all.
	tablesSQL = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
  CASE WHEN c.relkind = 'p' THEN (
    SELECT CASE WHEN bool_or(l.reltuples < 0) THEN -1 ELSE coalesce(sum(l.reltuples), 0) END
    FROM pg_partition_tree(c.oid) p JOIN pg_class l ON l.oid = p.relid WHERE p.isleaf
  ) ELSE c.reltuples END::float8,
  coalesce(obj_description(c.oid, 'pg_class'), ''),
  coalesce(m.amname = 'heap', false) AND has_table_privilege(c.oid, 'SELECT'), -- column privileges do not include ctid
  c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid),
  has_schema_privilege(n.oid, 'USAGE') AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT')),
  has_schema_privilege(n.oid, 'USAGE'),
  c.relkind IN ('r', 'p', 'm') AND NOT c.relrowsecurity AND NOT EXISTS (
    WITH RECURSIVE below(oid) AS (SELECT c.oid UNION SELECT i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.oid)
    SELECT FROM below b JOIN pg_class f ON f.oid = b.oid WHERE f.relkind = 'f')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am m ON m.oid = c.relam
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND ($2::text[] = '{}' OR n.nspname = ANY($2::text[]))
ORDER BY n.nspname <> $1::text, n.nspname, c.relname`

	// columnsSQL returns the columns. It renders defaults without a table, since they do not
	// refer to columns and that is much faster if there are many.
	columnsSQL = `
SELECT a.attrelid, a.attnum, a.attname::text, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
  coalesce(col_description(a.attrelid, a.attnum), ''),
  CASE WHEN l.collisdeterministic THEN '' ELSE coalesce(quote_ident(s.nspname) || '.' || quote_ident(l.collname), '') END,
  coalesce(CASE WHEN l.oid = 'pg_catalog."default"'::regcollation
    THEN coalesce(to_jsonb(b)->>'datlocprovider', 'c') = 'c' AND b.datcollate IN ('C', 'POSIX')
    ELSE l.collprovider = 'c' AND l.collcollate IN ('C', 'POSIX') END, false),
  CASE WHEN a.attgenerated = '' THEN coalesce(pg_get_expr(d.adbin, 0), '') ELSE '' END,
  CASE WHEN a.attgenerated <> '' THEN coalesce('always as (' || pg_get_expr(d.adbin, d.adrelid) || ')', 'always')
    WHEN a.attidentity = 'a' THEN 'always as identity' WHEN a.attidentity = 'd' THEN 'by default as identity' ELSE '' END,
  has_column_privilege(a.attrelid, a.attnum, 'SELECT')
FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation LEFT JOIN pg_namespace s ON s.oid = l.collnamespace
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  JOIN pg_database b ON b.datname = current_database()
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

	// typesSQL returns all types that the columns use: also the base types of domains, the
	// elements of arrays and the fields of rows. For each it has the five operators of the
	// default operator class, from the smallest strategy, <, to the largest, >.
	typesSQL = `
WITH RECURSIVE reach(oid) AS (
  SELECT DISTINCT a.atttypid FROM pg_attribute a WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  UNION
  SELECT n.oid FROM reach r JOIN pg_type t ON t.oid = r.oid CROSS JOIN LATERAL (
    SELECT t.typbasetype AS oid WHERE t.typtype = 'd'
    UNION ALL SELECT t.typelem WHERE EXISTS (SELECT FROM pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid)
    UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
  ) n
)
SELECT t.oid, format_type(t.oid, NULL), t.typtype::text, t.typbasetype, t.typtypmod,
  CASE WHEN EXISTS (SELECT FROM pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid) THEN t.typelem ELSE 0 END,
  s.proname::text, quote_ident(f.nspname) || '.' || quote_ident(o.proname),
  NOT EXISTS (SELECT FROM pg_cast c WHERE c.castsource = t.oid AND c.casttarget = 'text'::regtype AND c.castmethod = 'f'),
  ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
  quote_ident(tn.nspname) || '.' || quote_ident(t.typname),
  ARRAY(SELECT quote_ident(n.nspname) || '.' || p.oprname
    FROM pg_opclass k JOIN pg_amop m ON m.amopfamily = k.opcfamily AND m.amoplefttype = k.opcintype AND m.amoprighttype = k.opcintype
    JOIN pg_operator p ON p.oid = m.amopopr JOIN pg_namespace n ON n.oid = p.oprnamespace
    WHERE k.opcdefault AND k.opcmethod = (SELECT a.oid FROM pg_am a WHERE a.amname = 'btree') AND k.opcintype = CASE
      WHEN EXISTS (SELECT FROM pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid) THEN 'anyarray'::regtype
      WHEN t.typtype = 'e' THEN 'anyenum'::regtype WHEN t.typtype = 'r' THEN 'anyrange'::regtype
      WHEN t.typtype = 'm' THEN to_regtype('anymultirange') WHEN t.typtype = 'c' THEN 'record'::regtype
      WHEN EXISTS (SELECT FROM pg_opclass e WHERE e.opcdefault AND e.opcintype = t.oid AND e.opcmethod = k.opcmethod) THEN t.oid
      ELSE (SELECT c.casttarget FROM pg_cast c JOIN pg_opclass e ON e.opcintype = c.casttarget AND e.opcdefault AND e.opcmethod = k.opcmethod
        WHERE c.castsource = t.oid AND c.castmethod = 'b' AND c.castcontext = 'i' ORDER BY 1 LIMIT 1) END
    ORDER BY m.amopstrategy),
  coalesce(r.names, '{}'), coalesce(r.types, '{}'), coalesce(r.mods, '{}')
FROM reach JOIN pg_type t ON t.oid = reach.oid JOIN pg_namespace tn ON tn.oid = t.typnamespace
JOIN pg_proc o ON o.oid = t.typoutput JOIN pg_namespace f ON f.oid = o.pronamespace LEFT JOIN pg_proc s ON s.oid = t.typsend
LEFT JOIN LATERAL (
  SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names, array_agg(a.atttypid ORDER BY a.attnum) AS types, array_agg(a.atttypmod ORDER BY a.attnum) AS mods
  FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
) r ON true`

	// constraintsSQL returns keys and foreign keys. A unique index over columns without a
	// condition counts as a key, since foreign keys may refer to it.
	constraintsSQL = `
SELECT c.conrelid, c.conname::text, c.contype::text, c.confrelid, c.conkey, coalesce(c.confkey, '{}'),
  coalesce(o.names, '{}'), coalesce(o.lefts, '{}'), coalesce(o.rights, '{}')
FROM pg_constraint c` + operatorsSQL + ` WHERE c.conrelid = ANY($1::oid[]) AND c.contype IN ('p', 'u', 'f')
UNION ALL
SELECT i.indrelid, x.relname::text, 'u', 0, ARRAY(SELECT i.indkey[k] FROM generate_series(0, i.indnkeyatts - 1) k), '{}', '{}', '{}', '{}'
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = ANY($1::oid[]) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u'))
ORDER BY 1, 3, 2`

	// partitionKeysSQL returns, like constraintsSQL, the foreign keys that all partitions of a
	// table have, as keys of the table. Columns correspond by name: a partition may have them
	// in another order.
	partitionKeysSQL = `
WITH leaves AS (
  SELECT r.oid AS root, p.relid AS leaf, count(*) OVER (PARTITION BY r.oid) AS all_leaves
  FROM pg_class r CROSS JOIN LATERAL pg_partition_tree(r.oid) p WHERE r.oid = ANY($1::oid[]) AND r.relkind = 'p' AND p.isleaf
), keys AS (
  SELECT l.root, l.leaf, l.all_leaves, c.oid, c.confrelid AS target, k.numbers, k.ordered, k.targeted
  FROM leaves l JOIN pg_constraint c ON c.conrelid = l.leaf AND c.contype = 'f' CROSS JOIN LATERAL (
    SELECT array_agg(a.attnum ORDER BY u.i) AS numbers,
      array_agg(a.attnum ORDER BY a.attnum, u.far) AS ordered, array_agg(u.far ORDER BY a.attnum, u.far) AS targeted
    FROM unnest(c.conkey, c.confkey) WITH ORDINALITY AS u(near, far, i) JOIN pg_attribute p ON p.attrelid = l.leaf AND p.attnum = u.near
    JOIN pg_attribute a ON a.attrelid = l.root AND a.attname = p.attname AND NOT a.attisdropped
  ) k
), shared AS (
  SELECT root, min(oid) AS oid FROM keys GROUP BY root, target, ordered, targeted HAVING count(DISTINCT leaf) = min(all_leaves)
)
SELECT s.root, c.conname::text, 'f', c.confrelid, k.numbers, c.confkey,
  coalesce(o.names, '{}'), coalesce(o.lefts, '{}'), coalesce(o.rights, '{}')
FROM shared s JOIN keys k ON k.root = s.root AND k.oid = s.oid JOIN pg_constraint c ON c.oid = s.oid` + operatorsSQL + `
ORDER BY 1, 2, 5`

	// operatorsSQL adds the operators of a foreign key c, which compare each column of the
	// target with one of the table, and the types of their operands, which are empty for
	// polymorphic ones.
	operatorsSQL = ` LEFT JOIN LATERAL (
  SELECT array_agg(quote_ident(n.nspname) || '.' || p.oprname ORDER BY u.i) AS names,
    array_agg(CASE WHEN l.typtype = 'p' THEN '' ELSE quote_ident(ln.nspname) || '.' || quote_ident(l.typname) END ORDER BY u.i) AS lefts,
    array_agg(CASE WHEN r.typtype = 'p' THEN '' ELSE quote_ident(rn.nspname) || '.' || quote_ident(r.typname) END ORDER BY u.i) AS rights
  FROM unnest(c.conpfeqop) WITH ORDINALITY u(op, i) JOIN pg_operator p ON p.oid = u.op JOIN pg_namespace n ON n.oid = p.oprnamespace
    JOIN pg_type l ON l.oid = p.oprleft JOIN pg_namespace ln ON ln.oid = l.typnamespace
    JOIN pg_type r ON r.oid = p.oprright JOIN pg_namespace rn ON rn.oid = r.typnamespace
) o ON true`
)
