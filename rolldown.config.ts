// `npm run build`: the program as JavaScript in dist/, with all that it needs but Node. dist/veneer.mjs is run; what it loads lies beside it.
import { globSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { defineConfig, type Plugin } from 'rolldown';

/** As the formatter writes it where a thread is started. */
const THREAD = /new Worker\(new URL\('(\.\/[\w-]+)\.ts', import\.meta\.url\)/g;

export default defineConfig({
  input: { veneer: 'src/main.ts', ...findThreads() },
  platform: 'node',
  plugins: [
    startBuiltThreads(),
    takePartsOfUndici(),
    leaveOutHttp2(),
    takeBuiltins(),
    escapeBeyondAscii(),
    collectLicences(),
  ],
  output: {
    dir: 'dist',
    cleanDir: true,
    format: 'esm',
    entryFileNames: '[name].mjs',
    chunkFileNames: '[name]-[hash].mjs',
    sourcemap: true,
    // Places and names are enough for a stack trace, at a third of the size.
    sourcemapExcludeSources: true,
    comments: { legal: false, annotation: false, jsdoc: false },
    // Of the entry alone, which is what a shell runs.
    banner: ({ name }) => (name === 'veneer' ? '#!/usr/bin/env node' : ''),
  },
});

/** Each is an entry of its own, by its name. Throws where one is started in another way: the build would leave it out. */
function findThreads(): Record<string, string> {
  const paths = globSync('src/**/*.ts').flatMap(path => {
    const text = readFileSync(path, 'utf8');
    const threads = [...text.matchAll(THREAD)].map(([, thread = '']) => join(dirname(path), `${thread}.ts`));
    if (text.split('new Worker(').length - 1 !== threads.length)
      throw new Error(`${path}: a thread is started by new Worker(new URL('./name.ts', import.meta.url)`);
    return threads;
  });
  return Object.fromEntries(paths.map(path => [basename(path, '.ts'), path]));
}

/** All that is built lies in one folder. */
function startBuiltThreads(): Plugin {
  return {
    name: 'start-built-threads',
    transform: {
      filter: { code: THREAD },
      // No line moves, and mappings stay right.
      handler: code => ({ code: code.replaceAll(THREAD, "new Worker(new URL('$1.mjs', import.meta.url)"), map: null }),
    },
  };
}

/** What its index gives, as far as Veneer uses it: the index loads clients, caches and tests that it does not use, which is a tenth of a start. */
const UNDICI = `
import Dispatcher from 'undici/lib/dispatcher/dispatcher.js';
import request from 'undici/lib/api/api-request.js';
import { FormData } from 'undici/lib/web/fetch/formdata.js';
import { Headers } from 'undici/lib/web/fetch/headers.js';
// Before the next, which reads what it adds to a table.
import { Response } from 'undici/lib/web/fetch/response.js';
import { Request } from 'undici/lib/web/fetch/request.js';
import { CloseEvent, ErrorEvent, MessageEvent } from 'undici/lib/web/websocket/events.js';

export { default as Agent } from 'undici/lib/dispatcher/agent.js';
export { default as buildConnector } from 'undici/lib/core/connect.js';
export { default as errors } from 'undici/lib/core/errors.js';

Object.assign(Dispatcher.prototype, { request });

async function fetch(...given) {
  const { default: { fetch } } = await import('undici/lib/web/fetch/index.js');
  return fetch(...given);
}

// Packages read the names of these events when they are loaded, for which Node would load its own undici.
export const install = () => void Object.assign(globalThis, {
  ...{ fetch, FormData, Headers, Request, Response },
  ...{ CloseEvent, ErrorEvent, MessageEvent },
});
`;

/** Packages that import it get its index. */
function takePartsOfUndici(): Plugin {
  const name = 'parts-of-undici';
  const importers = /[/\\]src[/\\]/;
  return {
    name: 'take-parts-of-undici',
    resolveId: {
      filter: { id: /^undici$/ },
      handler: (_, importer = '') => (importers.test(importer) ? join(import.meta.dirname, name) : undefined),
    },
    load: { filter: { id: new RegExp(`[/\\\\]${name}$`) }, handler: () => ({ code: UNDICI, moduleType: 'js' }) },
  };
}

/** Packages read some of its names when they are loaded, which is 7 % of a start; Veneer speaks HTTP/1.1 to everyone. */
function leaveOutHttp2(): Plugin {
  const id = 'no-http2';
  return {
    name: 'leave-out-http2',
    resolveId: { filter: { id: /^(?:node:)?http2$/ }, handler: () => id },
    load: {
      filter: { id: new RegExp(`^${id}$`) },
      handler: () => 'export class Http2ServerRequest {}\nexport const constants = {};\n',
    },
  };
}

/**
 * Modules of Node are taken as they are. An import statement reads all that they export, and so loads what they would load when it is used: of
 * `node:http` a second undici, a tenth of a start. The entry stays as it is, since an old Node must be able to run it.
 */
function takeBuiltins(): Plugin {
  return {
    name: 'take-builtins',
    generateBundle(_, files) {
      for (const file of Object.values(files)) {
        if (file.type === 'chunk' && file.name !== 'veneer') file.code = file.code.replaceAll(IMPORT, takeBuiltin);
      }
    },
  };
}

/** As the bundler writes it. */
const IMPORT = /^import (?:\* as ([\w$]+)|([\w$]+))?(?:, )?(?:\{([^}]+)\} )?\s*from "([\w:/]+)";$/gm;

function takeBuiltin(statement: string, all = '', main = '', named = '', name = ''): string {
  if (!isBuiltin(name)) return statement;
  const taken = `process.getBuiltinModule("${name}")`;
  const names = named.replaceAll(' as ', ': ');
  return [
    ...[all, main].filter(Boolean).map(each => `const ${each} = ${taken};`),
    ...(names === '' ? [] : [`const {${names}} = ${taken};`]),
  ].join(' ');
}

/** Of a text with one other character V8 keeps two bytes for each: 6 MiB more of memory. Lines stay what they are, and mappings nearly. */
function escapeBeyondAscii(): Plugin {
  return {
    name: 'escape-beyond-ascii',
    generateBundle(_, files) {
      for (const file of Object.values(files)) if (file.type === 'chunk') file.code = escapeCode(file.code);
    },
  };
}

function escapeCode(code: string): string {
  const [escaped] = /\\[\u0080-\uffff]/.exec(code) ?? [];
  if (escaped) throw new Error(`${escaped} is escaped already`);
  const toEscape = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return code.replaceAll(/[\u0080-\uffff]/g, toEscape);
}

interface Licensed {
  readonly name: string;
  readonly version: string;
  readonly license?: string;
}

/** Of every package that something was taken from, in LICENSES.txt. */
function collectLicences(): Plugin {
  return {
    name: 'collect-licences',
    generateBundle(_, files) {
      const modules = Object.values(files).flatMap(file => (file.type === 'chunk' ? file.moduleIds : []));
      const packages = new Set(modules.flatMap(id => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(id)?.[0] ?? []));
      const source = [...packages]
        .sort()
        .map(describeLicence)
        .join(`\n${'-'.repeat(80)}\n\n`);
      this.emitFile({ type: 'asset', fileName: 'LICENSES.txt', source });
    },
  };
}

function describeLicence(directory: string): string {
  const { name, version, license }: Licensed = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
  const texts = globSync(join(directory, '{LICEN[CS]E,licen[cs]e,COPYING,NOTICE}*')).map(path =>
    readFileSync(path, 'utf8').trim(),
  );
  if (!license && texts.length === 0) throw new Error(`${name} ${version} says nothing of its licence`);
  return `${name} ${version}: ${license}\n\n${texts.join('\n\n')}\n`;
}
