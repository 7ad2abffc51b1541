import fc from "fast-check";
import { expect, test } from "vitest";
import { batches } from "../ts/batches.js";

const drawn = (...args: Parameters<typeof batches>) => Array.from(batches(...args), (batch) => [...batch]);

test("the published order, the same on every engine", () => {
  expect(drawn(10, 4, { seed: 1 })).toMatchInlineSnapshot(`
    [
      [
        0,
        1,
        2,
        7,
      ],
      [
        5,
        8,
        6,
        9,
      ],
      [
        4,
        3,
      ],
    ]
  `);
});

test("each sample once an epoch, in batches of the size asked for but the last", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 300 }).chain((n) => fc.tuple(fc.constant(n), fc.integer({ min: 1, max: n }))),
      fc.nat(),
      fc.integer({ min: 1, max: 3 }),
      fc.boolean(),
      ([samples, size], seed, epochs, dropLast) => {
        const all = drawn(samples, size, { seed, epochs, dropLast });
        const perEpoch = dropLast ? Math.floor(samples / size) : Math.ceil(samples / size);
        expect(all.length).toBe(perEpoch * epochs);
        for (let epoch = 0; epoch < epochs; epoch++) {
          const batchesOfEpoch = all.slice(epoch * perEpoch, (epoch + 1) * perEpoch);
          const seen = batchesOfEpoch.flat();
          expect(new Set(seen).size).toBe(seen.length);
          expect(seen.length).toBe(dropLast ? perEpoch * size : samples);
          expect(seen.every((index) => index < samples)).toBe(true);
          expect(batchesOfEpoch.slice(0, -1).every(({ length }) => length === size)).toBe(true);
        }
      },
    ),
  );
});

test("the seed decides the order, and each epoch has another", () => {
  const [a, b, c] = [1, 1, 2].map((seed) => drawn(100, 100, { seed, epochs: 2 }));
  expect(a).toEqual(b);
  expect(a).not.toEqual(c);
  expect(a![0]).not.toEqual(a![1]);
});

test("a batch stays as it was drawn", () => {
  const [first, second] = [...batches(50, 50, { epochs: 2 })];
  expect([...first!]).not.toEqual([...second!]);
});

test("every order is as likely as another", () => {
  const counts = new Map<string, number>();
  for (const order of batches(4, 4, { seed: 5, epochs: 24_000 })) {
    counts.set(`${order}`, (counts.get(`${order}`) ?? 0) + 1);
  }
  const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  expect(counts.size).toBe(24);
  expect(chiSquare).toBeLessThan(49.7); // 23 degrees of freedom: one seed in a thousand lies above
});
