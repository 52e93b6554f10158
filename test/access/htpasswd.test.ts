// The file of users: what is read, and how its faults are named.
import { hashSync } from 'bcryptjs';
import { expect, test } from 'vitest';
import { AccessFault } from '../../src/access/access.ts';
import { highestCost, parseHtpasswd } from '../../src/access/user-file.ts';

const HASH = hashSync('x', 4);

test('takes the three spellings of bcrypt, comments, empty lines and both line ends', () => {
  const [a, b, y] = ['$2a$', '$2b$', '$2y$'].map(prefix => HASH.replace('$2b$', prefix));
  const text = `# users\na:${a}\r\n\n  \nb:${b}\nwith space:${y} \n`;
  expect([...parseHtpasswd(text, 'htpasswd')]).toEqual([
    ['a', a],
    ['b', b],
    ['with space', y],
  ]);
});

test('an empty file has no users', () => {
  expect(parseHtpasswd('', 'htpasswd').size).toBe(0);
  expect(highestCost(new Map())).toBeUndefined();
});

test('knows the highest cost', () => {
  const text = `a:${HASH}\nb:${HASH.replace('$04$', '$12$')}\nc:${HASH.replace('$04$', '$10$')}`;
  expect(highestCost(parseHtpasswd(text, 'htpasswd'))).toBe(12);
});

test.each([
  ['MD5', 'ci:$apr1$canary$Fq0O/bcdefghijklmnopq.', /:2: the hash is not bcrypt/],
  ['SHA-1', 'ci:{SHA}canary', /:2: the hash is not bcrypt/],
  ['crypt', 'ci:canaryabcdefg', /:2: the hash is not bcrypt/],
  ['plain text', 'ci:canary', /:2: the hash is not bcrypt/],
  ['a hash that is cut off', `ci:${HASH.slice(0, -1)}`, /:2: the hash is not bcrypt/],
  ['a cost that takes minutes', `ci:${HASH.replace('$04$', '$20$')}`, /:2: the hash has cost 20: expected 4 to 16/],
  ['a cost below the least', `ci:${HASH.replace('$04$', '$03$')}`, /:2: the hash has cost 3/],
  ['no colon', 'canary', /:2: expected <user>:<bcrypt hash>/],
  ['no name', `:${HASH}`, /:2: expected <user>:<bcrypt hash>/],
  ['a name twice', `first:${HASH}`, /:2: duplicate user/],
])('%s is a fault with its line, and no hash', (_name, line, message) => {
  const text = `first:${HASH}\n${line}\n`;
  expect(() => parseHtpasswd(text, '/etc/htpasswd')).toThrow(message);
  expect(() => parseHtpasswd(text, '/etc/htpasswd')).toThrow('/etc/htpasswd:2: ');
  expect(() => parseHtpasswd(text, '/etc/htpasswd')).not.toThrow(/canary/);
  expect(() => parseHtpasswd(text, '/etc/htpasswd')).not.toThrow(HASH.slice(7, 20));
});

test('names every fault at once', () => {
  try {
    parseHtpasswd('a\nb\n', 'htpasswd');
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(AccessFault);
    expect(error).toHaveProperty('faults.length', 2);
  }
});

test('a file that is too large is refused', () => {
  expect(() => parseHtpasswd('#'.repeat(1024 * 1024 + 1), 'htpasswd')).toThrow(/larger than/);
});
