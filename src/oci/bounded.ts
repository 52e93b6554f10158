// Lists and maps of foreign input: bounded in length, and validated only up to the first error.
import { z } from 'zod';

/** Default for a list or map without another limit. */
const MAX_ITEMS = 10_000;

/**
 * A list of at most `max`, validated up to the first error. A list of zod's validates all items, however many, and makes a record of a
 * kilobyte of each error.
 */
export function listSchema<Item extends z.ZodType>(item: Item, max = MAX_ITEMS) {
  const list = z
    .array(z.unknown())
    .check(atMost(max, 'items'))
    .transform((items, context) => parseEach(items.entries(), item, context)?.map(([, value]) => value) ?? z.NEVER);
  bounded.set(list, { kind: 'list', inner: item, max });
  return list;
}

/** The same for an object with arbitrary keys, `__proto__` included, which a map of zod's silently drops. */
export function mapSchema<Value extends z.ZodType>(value: Value, max = MAX_ITEMS) {
  const map = z
    .custom<Readonly<Record<string, unknown>>>(isMap, 'must be an object')
    .transform(given => Object.entries(given))
    .check(atMost(max, 'items'))
    .transform((entries, context) => {
      const parsed = parseEach(entries, value, context);
      return parsed ? Object.fromEntries(parsed) : z.NEVER;
    });
  bounded.set(map, { kind: 'map', inner: value, max });
  return map;
}

interface Bounded {
  readonly kind: 'list' | 'map';
  /** Of each item or value. */
  readonly inner: z.ZodType;
  readonly max: number;
}

const bounded = new WeakMap<z.core.$ZodType, Bounded>();

/** What a list or map of these is of, for those who describe it: its schema itself does not show that. */
export function findBounded(schema: z.core.$ZodType): Bounded | undefined {
  return bounded.get(schema);
}

function isMap(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Undefined after an error, which is in the context. */
function parseEach<Key extends string | number, Item extends z.ZodType>(
  entries: Iterable<readonly [Key, unknown]>,
  schema: Item,
  context: z.core.$RefinementCtx,
): readonly (readonly [Key, z.output<Item>])[] | undefined {
  const parsed: (readonly [Key, z.output<Item>])[] = [];
  for (const [key, item] of entries) {
    const { success, data, error } = schema.safeParse(item);
    if (success) parsed.push([key, data]);
    else {
      for (const { path, message } of error.issues) {
        context.addIssue({ code: 'custom', path: [key, ...path], message });
      }
      return undefined;
    }
  }
  return parsed;
}

/** Refuses more than `max` characters or items, with the field's size in the message. */
export function atMost<T extends { readonly length: number }>(max: number, unit: 'characters' | 'items') {
  return ({ value, issues }: z.core.ParsePayload<T>): void => {
    const message = `has ${value.length} ${unit}, over the limit of ${max}`;
    if (value.length > max) issues.push({ code: 'custom', message, input: value });
  };
}
