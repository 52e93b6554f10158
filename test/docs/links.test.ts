// Links between documents lead somewhere: to a file that is there, and to a heading that it has.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const inDocs = readdirSync(join(ROOT, 'docs'), { recursive: true }).map(name => join('docs', String(name)));
const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md', ...inDocs].filter(name =>
  name.endsWith('.md'),
);

/** As GitHub names them. */
function anchorsOf(path: string): readonly string[] {
  const headings = readFileSync(path, 'utf8').match(/^#+ .+$/gm) ?? [];
  return headings.map(heading =>
    heading
      .replace(/^#+ /, '')
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test.each(pages)('%s', page => {
  const links = [...readFileSync(join(ROOT, page), 'utf8').matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)/g)];
  const broken = links.flatMap(([, file = '', anchor]) => {
    const path = file === '' ? join(ROOT, page) : join(ROOT, dirname(page), file);
    if (!existsSync(path)) return [file];
    return anchor === undefined || anchorsOf(path).includes(anchor) ? [] : [`${file}#${anchor}`];
  });
  expect(broken).toEqual([]);
});
