// Maps digests to row numbers, in 40 bytes each: all data about the content of a row is in parallel columns.
import { randomFillSync } from 'node:crypto';
import { type Digest, digestHex, parseDigest } from '../../oci/digest.ts';

/** No row has this number. */
export const NONE = 0;

interface DigestTable {
  /** NONE for a digest that is not in the table. */
  find(digest: Digest): number;
  /** Adds a digest that is not in the table, and returns its row: a freed one, or a new one at the end. */
  add(digest: Digest): number;
  /** The digest of an occupied row. */
  get(row: number): Digest;
  /** Frees the row for another digest. */
  remove(row: number): void;
}

const WORDS = 8;
const PREFIX = 'sha256:';
const INITIAL_CAPACITY = 1024;
/** The maximum load factor: a search probes few slots. */
const FULL_PART = 1 / 2;

/** Linear probing by hash, mixed with a secret seed to prevent crafted collisions. */
export function createDigestTable(): DigestTable {
  const [seed = 0, factor = 0] = randomFillSync(new Uint32Array(2));
  const bytes = Buffer.alloc(WORDS * 4);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, WORDS);
  /** The full digest unless it is SHA-256; those have only their first bytes stored by row. */
  const others = new Map<number, Digest>();
  const free: number[] = [];
  let rows = new Uint32Array(INITIAL_CAPACITY * WORDS);
  let slots = new Uint32Array(INITIAL_CAPACITY / FULL_PART);
  let count = 0;
  let lastRow = NONE;

  /** Its first bytes are in `words` from here on. */
  function read(digest: Digest): Digest | undefined {
    bytes.write(digestHex(digest), 0, WORDS * 4, 'hex');
    return digest.startsWith(PREFIX) ? undefined : digest;
  }

  const slotOf = (at: (word: number) => number) =>
    (Math.imul(at(0) ^ seed, factor | 1) ^ Math.imul(at(1), seed | 1)) >>> 0;
  const homeSlot = (row: number) => slotOf(word => rows[row * WORDS + word] ?? 0) % slots.length;

  function holds(row: number, other: Digest | undefined): boolean {
    for (let word = 0; word < WORDS; word += 1) if (rows[row * WORDS + word] !== words[word]) return false;
    return others.get(row) === other;
  }

  /** The slot of the row that was looked up, or the empty slot for it. */
  function search(other: Digest | undefined): number {
    let slot = slotOf(word => words[word] ?? 0) % slots.length;
    for (; ; slot = (slot + 1) % slots.length) {
      const row = slots[slot] ?? NONE;
      if (row === NONE || holds(row, other)) return slot;
    }
  }

  function insert(row: number): void {
    let slot = homeSlot(row);
    while (slots[slot] !== NONE) slot = (slot + 1) % slots.length;
    slots[slot] = row;
  }

  function grow(): void {
    rows = new Uint32Array(rows.buffer.transfer(rows.byteLength * 2));
    const taken = slots.filter(row => row !== NONE);
    slots = new Uint32Array(slots.length * 2);
    for (const row of taken) insert(row);
  }

  /** Entries behind an empty slot would be lost: all up to the next empty one are reinserted. */
  function close(empty: number): void {
    slots[empty] = NONE;
    for (let slot = (empty + 1) % slots.length; ; slot = (slot + 1) % slots.length) {
      const row = slots[slot] ?? NONE;
      if (row === NONE) return;
      slots[slot] = NONE;
      insert(row);
    }
  }

  return {
    find(digest) {
      return slots[search(read(digest))] ?? NONE;
    },
    add(digest) {
      if (count + 1 >= slots.length * FULL_PART) grow();
      const other = read(digest);
      const row = free.pop() ?? ++lastRow;
      rows.set(words, row * WORDS);
      if (other) others.set(row, other);
      slots[search(other)] = row;
      count += 1;
      return row;
    },
    get(row) {
      const known = others.get(row);
      if (known) return known;
      words.set(rows.subarray(row * WORDS, (row + 1) * WORDS));
      return parseDigest(`${PREFIX}${bytes.toString('hex')}`);
    },
    remove(row) {
      words.set(rows.subarray(row * WORDS, (row + 1) * WORDS));
      const slot = search(others.get(row));
      others.delete(row);
      close(slot);
      free.push(row);
      count -= 1;
    },
  };
}
