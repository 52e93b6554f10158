// One variable in a word, such as $V, ${V:-default} or ${V#pattern}, and what it becomes.
import type { Cursor } from './cursor.ts';
import { type Reading, readUntil } from './expand.ts';
import { InvalidSyntax } from './invalid.ts';
import { replacePattern, trimEnd, trimStart } from './pattern.ts';

/** Reads from the dollar on. Throws InvalidSyntax. */
export function readSubstitution(reading: Reading): string {
  const { cursor, variables, keepsUnset } = reading;
  cursor.next();
  if (cursor.peek() === '{') return readBraces({ ...reading, depth: reading.depth + 1 });
  const name = readName(cursor);
  if (name === '') return '$';
  return variables(name) ?? (keepsUnset ? `$${name}` : '');
}

function readBraces(reading: Reading): string {
  const { cursor } = reading;
  cursor.next();
  const first = cursor.peek() ?? '';
  const name = readName(cursor);
  if (name === '' && first !== '')
    throw new InvalidSyntax('a variable has no name; expected $NAME, or the name in braces');
  const modifier = readModifier(cursor);
  if (modifier === '') throw new InvalidSyntax('"}" is missing at the end of a variable');
  switch (modifier) {
    case '}':
      return reading.variables(name) ?? (reading.keepsUnset ? `\${${name}}` : '');
    case '-':
    case ':-':
    case '+':
    case ':+':
    case '?':
    case ':?':
      return substituteDefault(name, modifier, reading);
    case '#':
    case '%':
      return trimPattern(name, modifier, reading);
    case '/':
      return replace(name, reading);
    default:
      throw new InvalidSyntax(
        `\${${name}${modifier}…} is unknown; there are \${V} \${V:-d} \${V:+d} \${V:?e}, the same without ":", \${V#p} \${V%p} \${V/p/r}`,
      );
  }
}

function readModifier(cursor: Cursor): string {
  const char = cursor.next() ?? '';
  return char === ':' ? char + (cursor.next() ?? '') : char;
}

function substituteDefault(name: string, modifier: string, reading: Reading): string {
  const word = readUntil('}', { ...reading, keepsEscapes: false, isPattern: false }).text;
  const value = reading.variables(name);
  if (value === undefined && reading.keepsUnset) return `\${${name}${modifier}${word}}`;
  const isThere = value !== undefined && !(modifier.startsWith(':') && value === '');
  if (modifier.endsWith('-')) return isThere ? value : word;
  if (modifier.endsWith('+')) return isThere ? word : '';
  if (isThere) return value;
  throw new InvalidSyntax(`${name}: ${word || `is not allowed to be ${value === undefined ? 'unset' : 'empty'}`}`);
}

function trimPattern(name: string, modifier: '#' | '%', reading: Reading): string {
  const word = readUntil('}', { ...reading, keepsEscapes: true, isPattern: true }).text;
  const value = reading.variables(name);
  if (value === undefined && reading.keepsUnset) return `\${${name}${modifier}${word}}`;
  const isLongest = word.startsWith(modifier);
  const trim = modifier === '#' ? trimStart : trimEnd;
  return trim(value ?? '', isLongest ? word.slice(1) : word, isLongest ? 'longest' : 'shortest');
}

function replace(name: string, reading: Reading): string {
  const all = reading.cursor.peek() === '/';
  if (all) reading.cursor.next();
  const pattern = readUntil('/', { ...reading, keepsEscapes: true, isPattern: true }).text;
  const replacement = readUntil('}', { ...reading, keepsEscapes: true, isPattern: false }).text;
  const value = reading.variables(name);
  if (value === undefined && reading.keepsUnset) return `\${${name}/${pattern}/${replacement}}`;
  return replacePattern(value ?? '', pattern, replacement, all);
}

/** A name, digits alone, or one of the shell's special characters; empty where there is none of these. */
function readName(cursor: Cursor): string {
  const first = cursor.peek() ?? '';
  if (/^[@*#?\-$!]$/.test(first)) return cursor.next() ?? '';
  const isNumber = /^\p{Nd}$/u.test(first);
  let name = '';
  for (
    let char = first;
    isNumber ? /^\p{Nd}$/u.test(char) : /^[\p{L}\p{Nd}_]$/u.test(char);
    char = cursor.peek() ?? ''
  ) {
    name += char;
    cursor.next();
  }
  return name;
}
