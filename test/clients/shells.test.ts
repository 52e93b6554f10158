// What is made for shells and for man, given to real ones.
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findMissingTools } from './support/clients.ts';
import { run } from './support/process.ts';

const missing = findMissingTools(['bash', 'zsh', 'fish', 'mandoc', 'groff']);
const MAIN = resolve('src/main.ts');

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-shells-'));
  await writeFile(join(folder, 'a-file'), '');
});

afterAll(() => rm(folder, { recursive: true }));

/** The line that the last word of `typed` begins, and what it may become. */
const CASES = [
  ['veneer to', 'token'],
  ['veneer token cr', 'create'],
  ['veneer token create --ad', '--admin'],
  ['veneer builds list --st', '--status'],
  ['veneer build --network no', 'none'],
  ['veneer mirror-config cri', 'crio'],
  ['veneer build -f a-fi', 'a-file'],
  ['veneer --config a-fi', 'a-file'],
  ['veneer token create --data-dir a-fi', 'a-file'],
] as const;

describe.skipIf(missing)(`shells${missing ? ` (${missing})` : ''}`, () => {
  test.each(CASES)('bash completes %s', async (typed, word) => {
    const script = await writeScript('bash');
    const words = typed.split(' ');
    const ask = `source ${script}; COMP_WORDS=("$@"); COMP_CWORD=${words.length - 1}; _veneer; printf '%s\\n' "\${COMPREPLY[@]}"`;
    expect(await run('bash', ['-c', ask, 'bash', ...words], { cwd: folder })).toBe(word);
  });

  test.each(CASES)('zsh completes %s', async (typed, word) => {
    const script = await writeScript('zsh');
    const asked = await run('zsh', ['-f', '-c', ASK_ZSH, 'zsh', script, typed], { cwd: folder });
    expect(/<<(.*?)>>/.exec(asked)?.[1]?.trim()).toBe([...typed.split(' ').slice(0, -1), word].join(' '));
  });

  test.each(CASES)('fish completes %s', async (typed, word) => {
    const script = await writeScript('fish');
    const asked = await run('fish', ['-N', '-c', `source ${script}; complete -C $argv[1]`, typed], {
      cwd: folder,
      env: { HOME: folder },
    });
    expect(asked.split('\n').map(line => line.split('\t')[0])).toEqual([word]);
  });

  test('the manual page has no fault, and shows each command with its examples', async () => {
    const page = join(folder, 'veneer.1');
    await writeFile(page, `${await run(process.execPath, [MAIN, 'man'])}\n`);
    expect(await run('mandoc', ['-Tlint', '-W', 'style', page])).toBe('');
    const { stdout, stderr } = spawnSync('groff', ['-man', '-ww', '-Tascii', '-P-cbou', page], { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(stdout).toContain('veneer token create');
    expect(stdout).toContain('veneer build . --platform linux/amd64,linux/arm64 -t local/app:1');
    expect(stdout).toContain('--network <mode>');
  });
});

const scripts = new Map<string, Promise<string>>();

/** Made by the command, once for each shell. */
function writeScript(shell: string): Promise<string> {
  const script = scripts.get(shell) ?? makeScript(shell);
  scripts.set(shell, script);
  return script;
}

async function makeScript(shell: string): Promise<string> {
  const path = join(folder, `veneer.${shell}`);
  await writeFile(path, await run(process.execPath, [MAIN, 'completion', shell]));
  return path;
}

/** Types into an interactive zsh, presses Tab, and prints the line that it then has. */
const ASK_ZSH = `
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1=; autoload -Uz compinit; compinit -u -D; source $1"
zpty -w shell 'tell() { print -r -- "<""<$BUFFER>"">"; exit }; zle -N tell; bindkey "^X" tell; print RE""ADY'
while zpty -r shell line; do [[ $line == *READY* ]] && break; done
zpty -w -n shell "$2"$'\\t\\x18'
while zpty -r shell line; do print -r -- "$line"; [[ $line == *'<<'*'>>'* ]] && break; done
`;
