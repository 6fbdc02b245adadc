-- A shop's table, and what says which pages show a row of it. Run outbox.sql first.
CREATE TABLE product (id int PRIMARY KEY, name text NOT NULL, price numeric(10, 2) NOT NULL, category text);
INSERT INTO product VALUES (41, 'teapot', 19.00, 'kitchen'), (42, 'lamp', 35.00, 'light'), (43, 'candle', 4.50, 'light');

CREATE TRIGGER product_purge AFTER INSERT OR UPDATE OR DELETE ON product
    FOR EACH ROW EXECUTE FUNCTION doorstep_purge('tag product-{id}', 'tag category-{category}');

-- The node only reads.
CREATE ROLE doorstep LOGIN;
GRANT SELECT ON doorstep_outbox, doorstep_outbox_state TO doorstep;
