// Whom files belong to: numbers, or names of the image's own /etc/passwd and /etc/group.
import { text } from 'node:stream/consumers';
import type { DirectoryNode } from './node.ts';
import { findNode, followPath } from './path.ts';
import { InvalidStep } from './step.ts';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const MAX_BYTES = 1024 * 1024;
const MAX_ID = 2 ** 31 - 1;

/** Of `user[:group]`; a user's group is the one of its name, or of its own number. A name that the image does not know is root. */
export async function findOwner(root: DirectoryNode, owner: string): Promise<Owner> {
  const colon = owner.indexOf(':');
  const [user, group] = colon < 0 ? [owner, ''] : [owner.slice(0, colon), owner.slice(colon + 1)];
  const found = await findUser(root, user);
  return group === '' ? found : { ...found, gid: await findGroup(root, group) };
}

/** Whether it is numbers alone, which mean the same in every image. */
export function isNumericOwner(owner: string): boolean {
  return owner.split(':').every(part => part === '' || parseId(part) !== undefined);
}

async function findUser(root: DirectoryNode, user: string): Promise<Owner> {
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
