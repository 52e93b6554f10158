// --chown and --chmod: numbers, or names from the image's own /etc/passwd and /etc/group; modes octal, or symbolic as in chmod(1).
import { text } from 'node:stream/consumers';
import { type DirectoryNode, findNode, followPath } from './file-system.ts';
import { InvalidStep } from './step.ts';

/** The resolved value of --chown or USER. */
export interface Ownership {
  readonly uid: number;
  readonly gid: number;
}

const MAX_BYTES = 1024 * 1024;

const MAX_ID = 2 ** 31 - 1;

/** Resolves `user[:group]`; the group defaults to the one of the user's name, or of its own number. Unknown names are root. */
export async function resolveChown(root: DirectoryNode, chown: string): Promise<Ownership> {
  const colon = chown.indexOf(':');
  const [user, group] = colon < 0 ? [chown, ''] : [chown.slice(0, colon), chown.slice(colon + 1)];
  const found = await findUser(root, user);
  return group === '' ? found : { ...found, gid: await findGroup(root, group) };
}

/** Whether it is numeric, and so means the same in every image. */
export function isNumericChown(chown: string): boolean {
  return chown.split(':').every(part => part === '' || parseId(part) !== undefined);
}

async function findUser(root: DirectoryNode, user: string): Promise<Ownership> {
  const id = parseId(user);
  if (id !== undefined) return { uid: id, gid: id };
  const [, , uid = '', gid = ''] = await findFields(root, ['etc', 'passwd'], user);
  return { uid: parseId(uid) ?? 0, gid: parseId(gid) ?? 0 };
}

async function findGroup(root: DirectoryNode, group: string): Promise<number> {
  const [, , gid = ''] = await findFields(root, ['etc', 'group'], group);
  return parseId(group) ?? parseId(gid) ?? 0;
}

function parseId(text: string): number | undefined {
  if (text === 'root') return 0;
  const id = /^\d{1,10}$/.test(text) ? Number(text) : undefined;
  return id !== undefined && id <= MAX_ID ? id : undefined;
}

async function findFields(root: DirectoryNode, path: readonly string[], name: string): Promise<readonly string[]> {
  const file = findNode(root, followPath(root, path));
  if (file?.kind !== 'file') return [];
  if (file.size > MAX_BYTES) throw new InvalidStep(`/${path.join('/')} is larger than ${MAX_BYTES} bytes`);
  const lines = (await text(file.open())).split('\n').map(line => line.trim().split(':'));
  return lines.find(([first]) => first === name) ?? [];
}

/** The new mode of a file, given its current one. */
export type ChangeMode = (mode: number, isDirectory: boolean) => number;

const OCTAL = /^[0-7]{1,5}$/;

const CLAUSE = /^([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)$/;

const ACTION = /([-+=])([rwxXst]*|[ugo])(?=[-+=]|$)/g;

const SHIFTS = { u: 6, g: 3, o: 0 } as const;

const MAX_MODE = 0o7777;

/** The value of an octal mode; undefined for a symbolic one. Throws InvalidStep for one that is too large. */
export function parseOctalMode(text: string): number | undefined {
  if (!/^\d+$/.test(text)) return undefined;
  const mode = OCTAL.test(text) ? Number.parseInt(text, 8) : Number.NaN;
  if (mode <= MAX_MODE) return mode;
  throw new InvalidStep(`--chmod is ${JSON.stringify(text.slice(0, 80))}; an octal mode is between 0 and 07777`);
}

/** Throws InvalidStep. */
export function parseMode(text: string): ChangeMode {
  const octal = parseOctalMode(text);
  if (octal !== undefined) return () => octal;
  const clauses = text.split(',').map(clause => CLAUSE.exec(clause));
  if (clauses.some(clause => clause === null)) {
    throw new InvalidStep(`--chmod is ${JSON.stringify(text.slice(0, 80))}; write it as 755 or u=rwX,go=rX`);
  }
  const actions = clauses.flatMap(clause => parseActions(clause?.[1] ?? '', clause?.[2] ?? ''));
  return (mode, isDirectory) =>
    actions.reduce((current, action) => apply(action, current, { mode, isDirectory }), mode);
}

interface Action {
  readonly who: string;
  readonly operator: string;
  readonly permissions: string;
}

function parseActions(who: string, text: string): readonly Action[] {
  return [...text.matchAll(ACTION)].map(([, operator = '', permissions = '']) => ({ who, operator, permissions }));
}

function apply(
  { who, operator, permissions }: Action,
  current: number,
  file: { mode: number; isDirectory: boolean },
): number {
  const wanted = bitsOf(permissions, who, { ...file, current, operator });
  const touched = maskOf(who, permissions);
  if (operator === '+') return current | (wanted & touched);
  if (operator === '-') return current & ~(wanted & touched);
  return (current & ~touched) | (wanted & touched);
}

/** All bits of the given classes. */
function maskOf(who: string, permissions: string): number {
  const all = who === '' || who.includes('a');
  const sticky = permissions.includes('t') && (all || /[ug]/.test(who)) ? 0o1000 : 0;
  const user = all || who.includes('u') ? 0o4700 : 0;
  const group = all || who.includes('g') ? 0o2070 : 0;
  return user | group | (all || who.includes('o') ? 0o007 : 0) | sticky;
}

interface State {
  readonly mode: number;
  readonly isDirectory: boolean;
  readonly current: number;
  readonly operator: string;
}

/** The bits of the letters for all classes. */
function bitsOf(permissions: string, who: string, { mode, isDirectory, current, operator }: State): number {
  if (permissions === 'u' || permissions === 'g' || permissions === 'o') {
    return ((current >> SHIFTS[permissions]) & 0o7) * 0o111;
  }
  let bits = 0;
  if (permissions.includes('r')) bits |= 0o444;
  if (permissions.includes('w')) bits |= 0o222;
  const isExecutable = isDirectory || (mode & 0o111) !== 0 || operator === '-';
  if (permissions.includes('x') || (permissions.includes('X') && isExecutable)) bits |= 0o111;
  if (permissions.includes('s') && who !== 'o') bits |= 0o6000;
  return permissions.includes('t') ? bits | 0o1000 : bits;
}
