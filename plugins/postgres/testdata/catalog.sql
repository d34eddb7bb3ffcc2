-- Everything that a catalog must be able to show.
CREATE EXTENSION IF NOT EXISTS postgres_fdw;
CREATE SCHEMA "Other";
CREATE SCHEMA hidden;

CREATE TABLE customers (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL UNIQUE, region int NOT NULL, code text NOT NULL, lower_email text GENERATED ALWAYS AS (lower(email)) STORED, since date NOT NULL DEFAULT CURRENT_DATE);
COMMENT ON TABLE customers IS 'who buys';
COMMENT ON COLUMN customers.email IS 'where to write';
CREATE UNIQUE INDEX ON customers (region, code);
CREATE UNIQUE INDEX ON customers (lower(email));
CREATE UNIQUE INDEX ON customers (since) WHERE since > '2020-01-01';

CREATE TABLE orders (
  id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, gift_for int REFERENCES customers, email text REFERENCES customers (email),
  region int, code text, FOREIGN KEY (region, code) REFERENCES customers (region, code) DEFERRABLE INITIALLY DEFERRED, replaces int REFERENCES orders, best_line int
);
CREATE TABLE lines (order_id int REFERENCES orders, no int, PRIMARY KEY (order_id, no));
ALTER TABLE orders ADD FOREIGN KEY (id, best_line) REFERENCES lines NOT VALID;
CREATE TABLE tags (id int PRIMARY KEY);
CREATE TABLE order_tags (order_id int REFERENCES orders, tag_id int REFERENCES tags, PRIMARY KEY (order_id, tag_id));

CREATE TABLE measures (at date NOT NULL, v int, PRIMARY KEY (at)) PARTITION BY RANGE (at);
CREATE TABLE measures_1 PARTITION OF measures FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE measures_2 PARTITION OF measures FOR VALUES FROM ('2021-01-01') TO ('2022-01-01') PARTITION BY HASH (at);
CREATE TABLE measures_2a PARTITION OF measures_2 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO measures SELECT '2020-01-01'::date + i, i FROM generate_series(0, 699) i;

CREATE TABLE animals (id int PRIMARY KEY, name text);
CREATE TABLE dogs (breed text, PRIMARY KEY (id)) INHERITS (animals);
INSERT INTO animals VALUES (1, 'cat'); INSERT INTO dogs VALUES (1, 'rex', 'mutt');

CREATE VIEW big AS SELECT * FROM measures WHERE v > 600;
CREATE MATERIALIZED VIEW totals AS SELECT date_trunc('month', at)::date AS month, sum(v) AS v FROM measures GROUP BY 1;
CREATE UNIQUE INDEX ON totals (month);
DO $$ BEGIN
  EXECUTE format('CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host ''127.0.0.1'', port %L, dbname %L)', current_setting('port'), current_database());
END $$;
CREATE USER MAPPING FOR CURRENT_USER SERVER self OPTIONS (user 'nobody');
CREATE FOREIGN TABLE far (id int NOT NULL, email text) SERVER self OPTIONS (table_name 'customers');

CREATE TABLE "Case" (id int); CREATE TABLE "case" (id int);
CREATE TABLE "a table with a name that is as long as a name in here can be, x" ("a column with a name that is as long as a name in here can be x" int PRIMARY KEY, "select" int, "ünïcödé ""q"" .;--" text);
INSERT INTO "a table with a name that is as long as a name in here can be, x" VALUES (1, 2, 'three');
CREATE TABLE "Other".orders (id int PRIMARY KEY, order_id int REFERENCES public.orders);
CREATE TABLE "Other.orders" (id int);
CREATE TABLE hidden.secret (id int PRIMARY KEY, customer_id int REFERENCES customers);
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE no_key (i int, s text);
INSERT INTO no_key SELECT i % 3, 'x' FROM generate_series(1, 50) i;
CREATE TEMPORARY TABLE mine (id int);
DO $$ BEGIN
  EXECUTE 'CREATE TABLE wide (' || (SELECT string_agg('c' || i || ' int DEFAULT ' || i, ', ') FROM generate_series(1, 1500) i) || ')';
END $$;
INSERT INTO wide DEFAULT VALUES;
ALTER TABLE wide DROP COLUMN c7;
CREATE SEQUENCE not_a_table;
ANALYZE;
