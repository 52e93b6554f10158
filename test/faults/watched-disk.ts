// Loaded before Veneer by `node --import`: counts what is asked of the file system below `content/`, and holds the look at all that is
// kept. The starter of the process is told so far when it asks ('tell'), and has the look go on ('go on').
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const FUNCTIONS = [
  'access',
  'lstat',
  'mkdir',
  'open',
  'opendir',
  'readdir',
  'readFile',
  'rename',
  'rm',
  'stat',
  'utimes',
];
const BELOW = /\/content\/?(.*)$/;

const asked: string[] = [];
const going = Promise.withResolvers<void>();

for (const name of FUNCTIONS) {
  const original: unknown = Reflect.get(fs.promises, name);
  if (typeof original !== 'function') throw new TypeError(`fs.promises has no ${name}`);
  Reflect.set(fs.promises, name, async (...args: readonly unknown[]) => {
    const [, path] = BELOW.exec(String(args[0])) ?? [];
    const when = process.getActiveResourcesInfo().includes('TCPServerWrap') ? '' : ' before it listens';
    if (path !== undefined) asked.push(`${name} ${path}${when}`);
    if (name === 'readdir' && path?.startsWith('blobs')) await going.promise;
    return Reflect.apply(original, fs.promises, args);
  });
}
syncBuiltinESMExports();

process.on('message', message => {
  if (message === 'go on') going.resolve();
  process.send?.(asked);
});
// It keeps nobody here.
process.channel?.unref();
